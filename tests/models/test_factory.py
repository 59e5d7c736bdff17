"""Models from the catalog's names: head, stem, size, record and rebuild."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from zoo.errors import ModelError, WeightsError
from zoo.models import build, build_on_meta, load_strict, rebuild, record

TIMM = "test_resnet test_vit test_convnext test_efficientnet test_mambaout test_nfnet deit_tiny_distilled_patch16_224"
TORCHVISION = "alexnet squeezenet1_1 googlenet inception_v3 vit_b_32 mnasnet0_5 densenet121 mobilenet_v3_small swin_t"
NAMES = [*TIMM.split(), *(f"torchvision/{n}" for n in TORCHVISION.split()), "zoo_tiny"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 4])
def test_head_and_stem_are_what_was_asked_for(name, channels):
    model = build_on_meta(name, classes=7, in_chans=channels)
    assert (model.classes, model.preprocess.channels) == (7, channels)
    assert len(model.preprocess.mean) == len(model.preprocess.std) == channels
    logits = model.module.eval()(torch.empty(2, *model.preprocess.input_size, device="meta"))
    assert logits.shape == (2, 7)
    assert model.head
    for path in model.head:
        assert isinstance(model.module.get_submodule(path), nn.Module)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_resnet", {"classes": 3, "in_chans": 1}),
        ("test_vit", {"classes": 3, "img_size": 64, "drop_path": 0.1}),
        ("zoo_tiny", {"classes": 3, "in_chans": 2, "drop": 0.3}),
        ("torchvision/resnet18", {"classes": 3, "in_chans": 5, "img_size": 64}),
        ("torchvision/mnasnet0_5", {"classes": 3, "img_size": 64}),
        ("torchvision/googlenet", {"classes": 3, "drop": 0.1, "img_size": 64}),
    ],
)
def test_a_record_rebuilds_what_was_built_and_its_weights_load_strictly(name, options):
    model = build(name, weights="none", **options)
    described = json.loads(json.dumps(record(model)))
    again = rebuild(described)
    load_strict(again.module, model.module.state_dict())
    images = torch.randn(2, *model.preprocess.input_size)
    assert torch.equal(again.module.eval()(images), model.module.eval()(images))
    assert (again.groups, again.head, again.preprocess) == (model.groups, model.head, model.preprocess)
    assert record(again) == described


def test_the_same_seed_gives_the_same_start():
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build("torchvision/resnet18", classes=5, in_chans=2, weights="none").module.state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_a_skeleton_has_the_groups_of_the_model_and_no_memory():
    bare, model = build_on_meta("test_vit", classes=3), build("test_vit", classes=3, weights="none")
    assert bare.groups == model.groups
    assert {p.device.type for p in bare.module.parameters()} == {"meta"}


def test_constructors_that_compute_with_tensors_have_a_skeleton_too():
    bare = build_on_meta("torchvision/regnet_y_400mf", classes=3)
    assert {t.device.type for t in bare.module.state_dict().values()} == {"meta"}


def test_googlenet_sees_what_torchvisions_own_normalisation_gives_it():
    """Its published weights normalise twice; zoo states the product, so that any number of channels works."""
    model = build("torchvision/googlenet", classes=3, weights="none")
    pixels = torch.rand(1, 3, 64, 64)
    theirs = torch.nn.functional.batch_norm(
        pixels, torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]).square(), eps=0
    )
    model.module.transform_input = True
    expected = model.module._transform_input(theirs)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    assert torch.allclose((pixels - mean) / std, expected, atol=1e-5)


def test_a_model_without_published_head_gives_features_or_the_head_that_is_asked_for():
    assert build_on_meta("vit_small_patch14_dinov2").classes == 0
    assert build_on_meta("vit_small_patch14_dinov2").groups[-1].parameters == ()
    assert build_on_meta("vit_small_patch14_dinov2", classes=5).head == ("head",)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet3", {}, "no model named 'resnet3'"),
        ("resnet34.a9_in1k", {}, "no weights tagged 'a9_in1k'"),
        ("test_resnet", {"classes": 0}, "0 classes"),
        ("test_resnet", {"in_chans": 0}, "0 input channels"),
        ("test_resnet", {"drop": 1.5}, "drop is 1.5"),
        ("test_vit", {"img_size": 100}, "cannot take images of 3 x 100 x 100"),
        ("torchvision/vit_b_16", {"img_size": 100}, "image_size=100"),
        ("vgg11", {"img_size": 8}, "cannot take images of 3 x 8 x 8"),
        ("vgg11", {"drop_path": 0.1}, "vgg11 does not support --drop-path"),
        ("torchvision/resnet18", {"drop": 0.1}, "torchvision/resnet18 does not support --drop"),
    ],
)
def test_unsupported_options_are_errors(name, options, message):
    with pytest.raises(ModelError) as e:
        build(name, weights="none", **options)
    assert message in e.value.message
    assert e.value.hint
    assert e.value.exit_code == 4


def test_a_damaged_record_is_an_error():
    described = record(build("test_resnet", classes=2, weights="none"))
    for key in ("name", "args", "pretrained_cfg", "preprocess"):
        with pytest.raises(ModelError, match="damaged"):
            rebuild({k: v for k, v in described.items() if k != key})
    with pytest.raises(ModelError, match="unknown source"):
        rebuild({**described, "source": "elsewhere"})
    with pytest.raises(ModelError, match="has no model"):
        rebuild({**described, "architecture": "resnot"})
    with pytest.raises(ModelError, match="damaged"):
        rebuild({**described, "pretrained_cfg": {"nonsense": 1}})


def test_strict_loading_names_what_does_not_belong():
    module = build("test_resnet", classes=2, weights="none").module
    state = module.state_dict()
    state["fc.weight"] = state["fc.weight"][:1]
    state["more"] = state.pop("fc.bias")
    with pytest.raises(WeightsError) as e:
        load_strict(module, state)
    for part in ("fc.bias: missing", "more: not in the model", "fc.weight: (1, "):
        assert part in e.value.message
