"""Classifiers: auxiliary outputs, pooling, how a new head starts."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from zoo.errors import ModelError
from zoo.models import build, build_on_meta, load_strict, rebuild, record, without_auxiliary
from zoo.strategy.freeze import resolve_plan, set_train_mode

AUXILIARY_HEADS = {"torchvision/googlenet": (0.3, 2), "torchvision/inception_v3": (0.4, 1), "inception_v3": (0.4, 1)}


@pytest.mark.parametrize("name", AUXILIARY_HEADS)
def test_auxiliary_heads_give_logits_in_training_and_none_in_evaluation(name):
    model = build_on_meta(name, classes=5)
    weight, heads = AUXILIARY_HEADS[name]
    assert model.auxiliary == weight
    images = torch.empty(2, *model.preprocess.input_size, device="meta")
    logits, others = model.module(images)
    assert logits.shape == (2, 5)
    assert [o.shape for o in others] == [(2, 5)] * heads
    assert model.module.eval()(images).shape == (2, 5)
    logits, others = copy.deepcopy(model.module).train()(images)
    assert len(others) == heads


@pytest.mark.parametrize("name", AUXILIARY_HEADS)
def test_an_auxiliary_head_belongs_to_the_stage_that_it_branches_from(name):
    model = build_on_meta(name, classes=5)
    of = {m: g.name for g in model.groups for m in g.modules}
    if name == "torchvision/googlenet":
        assert (of["aux1"], of["aux2"]) == (of["inception4a"], of["inception4d"])
    else:
        assert of["AuxLogits"] == of["Mixed_6e"]
    assert model.head == ("fc",)


def test_the_auxiliary_loss_trains_the_heads_and_a_frozen_head_gives_none():
    model = build("torchvision/googlenet", classes=3, img_size=64, weights="none")
    images, target = torch.randn(2, 3, 64, 64), torch.tensor([0, 2])
    logits, others = model.module(images)
    (cross_entropy(logits, target) + model.auxiliary * sum(cross_entropy(o, target) for o in others)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.module.aux1.fc2.parameters())
    assert all(p.grad is not None for p in model.module.parameters())
    # stage5 is inception4b: aux1 branches before it, aux2 after it.
    set_train_mode(model.module, resolve_plan("stage5", model.groups, model.module))
    assert len(model.module(images)[1]) == 1
    set_train_mode(model.module, resolve_plan("backbone", model.groups, model.module))
    assert model.module(images).shape == (2, 3)


def test_the_order_of_the_auxiliary_logits_is_that_of_their_heads():
    module = build("torchvision/googlenet", classes=3, img_size=64, weights="none").module
    module.aux1.eval()
    with torch.no_grad():
        module.aux2.fc2.weight.zero_()
        module.aux2.fc2.bias.fill_(7.0)
        _, (only,) = module(torch.randn(2, 3, 64, 64))
    assert only.eq(7).all()


@pytest.mark.parametrize("name", AUXILIARY_HEADS)
def test_a_model_with_auxiliary_heads_is_rebuilt_and_exported_without_them(name):
    model = build(name, classes=3, weights="none")
    again = rebuild(record(model))
    assert again.auxiliary == model.auxiliary
    load_strict(again.module, model.module.state_dict())
    bare = without_auxiliary(again)
    assert bare.auxiliary is None
    assert not [k for k in bare.module.state_dict() if "aux" in k.lower()]
    images = torch.randn(1, *model.preprocess.input_size)
    with torch.no_grad():
        expected = model.module.eval()(images)
        assert torch.equal(bare.module.eval()(images), expected)
    assert rebuild(record(bare)).auxiliary is None
    library = timm.create_model if name == "inception_v3" else torchvision.models.get_model
    args = {k: v for k, v in bare.args.items() if k != "in_chans"}
    plain = library(bare.architecture, **args).eval()
    plain.load_state_dict(bare.module.state_dict())
    with torch.no_grad():
        assert torch.equal(plain(images), expected)


def test_a_model_without_auxiliary_heads_is_exported_as_it_is():
    model = build_on_meta("test_resnet", classes=2)
    assert model.auxiliary is None
    assert without_auxiliary(model) is model


def test_auxiliary_heads_are_loaded_or_stay_random(tmp_path):
    torch.manual_seed(0)
    published = torchvision.models.googlenet(num_classes=4, init_weights=False).state_dict()
    save_file(published, tmp_path / "with.safetensors")
    model = build("torchvision/googlenet", classes=4, weights=str(tmp_path / "with.safetensors"))
    assert all(torch.equal(model.module.state_dict()[k], t) for k, t in published.items())
    other = build("torchvision/googlenet", classes=3, weights=str(tmp_path / "with.safetensors"))
    assert torch.equal(other.module.aux1.fc1.weight, published["aux1.fc1.weight"])
    assert "aux1.fc2.weight: new head, (4, 1024) -> (3, 1024)" in other.weights.adapted

    save_file({k: t for k, t in published.items() if "aux" not in k}, tmp_path / "without.safetensors")
    bare = build("torchvision/googlenet", classes=4, weights=str(tmp_path / "without.safetensors"))
    assert {k.partition(".")[0] for k in bare.weights.missing} == {"aux1", "aux2"}
    assert bare.auxiliary == 0.3


@pytest.mark.parametrize("name", ["inception_v3", "torchvision/inception_v3"])
def test_small_images_have_no_auxiliary_head_in_inception(name):
    small = build_on_meta(name, classes=3, img_size=96)
    assert small.auxiliary is None
    assert small.module(torch.empty(2, 3, 96, 96, device="meta")).shape == (2, 3)
    assert build_on_meta(name, classes=3, img_size=299).auxiliary == 0.4
    assert build_on_meta(name, classes=3, img_size=75).classes == 3
    with pytest.raises(ModelError, match="cannot take images of 3 x 74 x 74"):
        build_on_meta(name, classes=3, img_size=74)


def test_weights_with_auxiliary_heads_fit_a_model_without_them(tmp_path):
    torch.manual_seed(0)
    published = torchvision.models.inception_v3(num_classes=4, init_weights=False).state_dict()
    save_file(published, tmp_path / "w.safetensors")
    model = build("torchvision/inception_v3", classes=4, img_size=96, weights=str(tmp_path / "w.safetensors"))
    assert "AuxLogits: auxiliary heads left out" in model.weights.adapted
    assert (model.weights.missing, model.weights.unexpected) == ((), ())


@pytest.mark.parametrize(
    ("name", "pool"), [("test_resnet", "max"), ("test_resnet", "catavgmax"), ("test_vit", "avg"), ("vgg11", "max")]
)
def test_pooling_is_chosen_where_the_architecture_has_a_choice(name, pool):
    model = build_on_meta(name, classes=3, pool=pool)
    assert model.args["global_pool"] == pool
    assert model.module.eval()(torch.empty(2, *model.preprocess.input_size, device="meta")).shape == (2, 3)


def test_pooling_changes_the_features_and_the_weights_still_fit(tmp_path):
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "w.safetensors")
    model = build("test_resnet", classes=3, pool="max", weights=str(tmp_path / "w.safetensors"))
    plain = build("test_resnet", classes=3, weights=str(tmp_path / "w.safetensors"))
    plain.module.fc.load_state_dict(model.module.fc.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert not torch.allclose(model.module.eval()(images), plain.module.eval()(images))
    doubled = build("test_resnet", classes=1000, pool="catavgmax", weights=str(tmp_path / "w.safetensors"))
    assert "fc.weight: new head, (1000, 96) -> (1000, 192)" in doubled.weights.adapted


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torchvision/resnet18", {"pool": "avg"}, "does not support --pool"),
        ("levit_128s", {"pool": "token"}, "levit_128s"),
        ("test_resnet", {"pool": "median"}, "global_pool=median"),
        ("test_vit", {"pool": ""}, "pool is empty"),
        ("test_resnet", {"head_init": "ones"}, "no head initialisation 'ones'"),
        ("qwen3_vit_88m_enc", {}, "cannot have a classifier"),
    ],
)
def test_an_unsupported_head_is_an_error(name, options, message):
    with pytest.raises(ModelError, match=message) as e:
        build(name, classes=3, weights="none", **options)
    assert e.value.hint


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "levit_128s", "deit_tiny_distilled_patch16_224"])
def test_a_zero_initialized_head_is_trainable(name):
    model = build(name, classes=3, weights="none", head_init="zero")
    logits = model.module(torch.randn(2, *model.preprocess.input_size))
    assert logits.eq(0).all()
    cross_entropy(logits, torch.tensor([0, 2])).backward()
    head = [p for n, p in model.module.named_parameters() if n in model.groups[-1].parameters]
    assert any(p.grad.abs().sum() > 0 for p in head)


def test_hidden_layers_of_a_head_are_not_initialized_to_zero():
    model = build("caformer_s18", classes=3, weights="none", head_init="zero")
    logits = model.module(torch.randn(2, 3, 64, 64))
    assert logits.eq(0).all()
    cross_entropy(logits, torch.tensor([0, 2])).backward()
    last = model.module.head.fc.fc2
    assert last.weight.grad.abs().sum() > 0


def test_a_pretrained_head_is_loaded(tmp_path):
    tuned = build("test_resnet", classes=3, weights="none").module.state_dict()
    save_file(tuned, tmp_path / "w.safetensors")
    loaded = build("test_resnet", classes=3, weights=str(tmp_path / "w.safetensors"), head_init="zero")
    assert torch.equal(loaded.module.fc.weight, tuned["fc.weight"])
    new = build("test_resnet", classes=4, weights=str(tmp_path / "w.safetensors"), head_init="zero")
    assert new.module.fc.weight.eq(0).all()
    assert new.module.fc.bias.eq(0).all()


def test_a_distilled_model_averages_its_heads():
    model = build("deit_tiny_distilled_patch16_224", classes=3, weights="none")
    images = torch.randn(2, 3, 224, 224)
    for module in (model.module.eval(), model.module.train()):
        with torch.no_grad():
            features = module.forward_features(images)
            expected = (module.head(features[:, 0]) + module.head_dist(features[:, 1])) / 2
            assert torch.allclose(module(images), expected, atol=1e-6)
