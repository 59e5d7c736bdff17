"""The multi-depth head: its columns, the backbone's names, and that it is a module like any other."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from zoo.errors import ModelError
from zoo.models import Model, build, build_on_meta, load_strict, rebuild, record
from zoo.models.model import Depths, Tap
from zoo.strategy.freeze import resolve_plan, set_train_mode
from zoo.training.feature_extractor import find_feature_extractor
from zoo.training.features.linear_probe import why_not_linear
from zoo.training.lora import add_lora, choose_layers

# Name → side, path and shape (channel dimension, channels, prefix tokens) of the last tap, number of last features.
FAMILIES = {
    "test_resnet": (64, "layer4", (1, 96, 0), 96),
    "test_efficientnet": (64, "bn2", (1, 256, 0), 256),
    "test_convnext": (64, "norm_pre", (1, 64, 0), 64),
    "test_vit": (32, "norm", (2, 64, 1), 64),
    "swin_tiny_patch4_window7_224": (224, "norm", (3, 768, 0), 768),
    "caformer_s18": (64, "stages.3", (1, 512, 0), 512),
    "torchvision/mobilenet_v3_small": (64, "features.12", (1, 576, 0), 1024),
    "torchvision/swin_t": (64, "norm", (3, 768, 0), 768),
    "torchvision/vit_b_16": (32, "encoder.ln", (2, 768, 1), 768),
    "torchvision/squeezenet1_1": (64, "features.12", (1, 512, 0), 512),
}


def make(name: str, side: int | None = None, **options: object) -> Model:
    torch.manual_seed(0)
    model = build(name, classes=5, weights="none", head="multi-depth", img_size=side, **options)
    model.module.eval()
    return model


def vector(model: Model, images: torch.Tensor) -> torch.Tensor:
    """The input of the linear layer."""
    inputs = []
    layer = model.module.get_submodule(model.head[0])
    hook = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    with torch.no_grad():
        model.module(images)
    hook.remove()
    (found,) = inputs
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_the_taps_are_the_outputs_of_the_stages(name: str) -> None:
    side, path, shape, features = FAMILIES[name]
    model = build_on_meta(name, classes=5, img_size=side, head="multi-depth")
    last = model.depths.taps[-1]
    assert (last.path, (last.channel_dim, last.channels, last.prefix_tokens)) == (path, shape)
    assert model.depths.features == features
    assert last.means == (shape[1] != features or shape[2] > 0)  # average pooling gives the means already
    assert model.head == ("multi_depth.fc",)
    layer = model.module.get_submodule("multi_depth.fc")
    assert type(layer) is nn.Linear
    columns = model.depths.columns
    assert columns[0].start == 0
    assert columns[-1] == slice(layer.in_features - features, layer.in_features)
    assert all(one.stop == other.start for one, other in pairwise(columns))
    assert model.module(torch.empty(2, *model.preprocess.input_size, device="meta")).shape == (2, 5)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "torchvision/swin_t"])
def test_the_backbone_keeps_its_names_and_groups(name: str) -> None:
    plain, model = (build_on_meta(name, classes=5, head=head) for head in ("linear", "multi-depth"))
    head = tuple(f"{path}." for path in plain.head)
    names = [n for n in plain.module.state_dict() if not n.startswith(head)]
    assert list(model.module.state_dict()) == [*names, "multi_depth.fc.weight", "multi_depth.fc.bias"]
    assert [g.parameters for g in model.groups[:-1]] == [g.parameters for g in plain.groups[:-1]]
    assert model.groups[-1].parameters == ("multi_depth.fc.weight", "multi_depth.fc.bias")
    assert type(model.module) is type(plain.module)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_the_columns_are_statistics_and_the_last_are_the_input_of_a_linear_head(name: str) -> None:
    model, plain = make(name), build(name, classes=5, weights="none")
    state = model.module.state_dict()
    plain.module.load_state_dict({k: t for k, t in state.items() if "multi_depth" not in k}, strict=False)
    plain.module.eval()
    images = torch.randn(2, *model.preprocess.input_size)
    inputs = vector(model, images)
    outputs: list[torch.Tensor] = []
    tapped = plain.module.get_submodule(model.depths.taps[2].path)
    tapped.register_forward_hook(lambda _, __, output: outputs.append(output))
    with torch.no_grad():
        last = plain.module.forward_head(plain.module.forward_features(images), pre_logits=True)
    assert torch.allclose(inputs[:, model.depths.columns[-1]], last, atol=1e-6)
    values = outputs[0].flatten(2) if name == "test_resnet" else outputs[0][:, 1:].transpose(1, 2)
    expected = torch.cat([values.mean(2), values.std(2, correction=0)], 1)
    assert torch.allclose(inputs[:, model.depths.columns[2]], expected, atol=2e-4)


def test_a_constant_map_has_a_finite_gradient() -> None:
    model = make("test_resnet", 32)
    model.module.train()
    model.module(torch.zeros(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.module.parameters())


@pytest.mark.parametrize(("name", "in_chans"), [("test_resnet", 1), ("test_vit", 4), ("torchvision/resnet18", 2)])
def test_a_model_comes_back_from_its_files_copies_and_pickles(name: str, in_chans: int, tmp_path: Path) -> None:
    model = make(name, 64, in_chans=in_chans)
    images = torch.randn(2, *model.preprocess.input_size)
    save_file(model.module.state_dict(), tmp_path / "w.safetensors")
    again = rebuild(json.loads(json.dumps(record(model))))
    load_strict(again.module, load_file(tmp_path / "w.safetensors"))
    assert (again.groups, again.depths, again.head) == (model.groups, model.depths, model.head)
    with torch.no_grad():
        expected = model.module(images)
        assert torch.equal(again.module.eval()(images), expected)
        copied = copy.deepcopy(model.module)
        assert torch.equal(pickle.loads(pickle.dumps(model.module))(images), expected)
        copied.multi_depth.fc.weight.zero_()
        assert not torch.equal(copied(images), expected)
        assert torch.equal(model.module(images), expected)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_torch_export_traces_any_batch_size(name: str) -> None:
    model = make(name)
    images = torch.randn(2, *model.preprocess.input_size)
    batch = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model.module, (images,), dynamic_shapes=(batch,), strict=False)
    other = torch.randn(3, *model.preprocess.input_size)
    with torch.no_grad():
        assert torch.allclose(program.module()(other), model.module(other), atol=1e-6)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "torchvision/mobilenet_v3_small"])
def test_the_input_of_the_layer_is_what_a_feature_cache_stores(name: str) -> None:
    model = make(name, 64)
    plan = resolve_plan("backbone", model.groups, model.module)
    plan.apply(model.module)
    set_train_mode(model.module, plan)
    images = torch.randn(3, 3, 64, 64)
    extractor = find_feature_extractor(model.module, plan.frozen_modules, images)
    assert extractor is not None
    assert (extractor.end, extractor.before, extractor.last) == ("multi_depth.fc", True, True)
    assert not why_not_linear(extractor)
    features = extractor.features(images)
    with torch.no_grad():
        assert torch.equal(features, vector(model, images))
        whole = model.module.eval()(images)
        assert torch.allclose(extractor.forward_head(features), whole, atol=1e-6)
        # With the wrapper of several processes the whole forward pass runs, without the stages.
        assert torch.allclose(extractor.forward_head(features, wrapped_model=model.module), whole, atol=1e-6)


def test_a_frozen_stage_cannot_be_cut_off_as_the_head_needs_its_output_too() -> None:
    model = make("test_resnet", 32)
    plan = resolve_plan("stage2", model.groups, model.module)
    plan.apply(model.module)
    set_train_mode(model.module, plan)
    assert find_feature_extractor(model.module, plan.frozen_modules, torch.randn(3, 3, 32, 32)) is None


def test_an_interrupted_pass_leaves_nothing_to_the_next() -> None:
    model = make("test_resnet", 32)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model.module(images)
        hook = model.module.layer3.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.module(images[:1])
        hook.remove()
        assert torch.equal(model.module(images), expected)


def test_lora_adapts_the_backbone_and_trains_the_head() -> None:
    model = make("test_vit", 32)
    allowed = {p for g in model.groups[:-1] for p in g.parameters}
    report = add_lora(
        model.module, choose_layers(model.module, allowed, "all", rank=2), rank=2, trainable=model.groups[-1].parameters
    )
    assert not [name for name in report.layers if "multi_depth" in name]
    model.module(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert model.module.multi_depth.fc.weight.grad.abs().sum() > 0


def test_pretrained_weights_bring_the_backbone_and_a_run_brings_its_head(tmp_path: Path) -> None:
    plain = build("test_resnet", classes=7, weights="none").module.state_dict()
    save_file(plain, tmp_path / "plain.safetensors")
    weights = str(tmp_path / "plain.safetensors")
    for classes in (5, 7):  # with 7, a linear head would be that of the file
        model = build("test_resnet", classes=classes, weights=weights, head="multi-depth", head_init="zero")
        assert model.weights.head_is_new
        assert f"new head ({classes} classes)" in model.weights.summary()
        assert model.weights.missing == ()
        assert not model.module.multi_depth.fc.weight.any()
        assert torch.equal(model.module.layer4[0].conv1.weight, plain["layer4.0.conv1.weight"])

    tuned = make("test_resnet").module.state_dict()
    save_file(tuned, tmp_path / "tuned.safetensors")
    again = build("test_resnet", classes=5, weights=str(tmp_path / "tuned.safetensors"), head="multi-depth")
    assert all(torch.equal(t, tuned[n]) for n, t in again.module.state_dict().items())
    assert not again.weights.head_is_new
    assert (again.weights.loaded, again.weights.unexpected) == (len(tuned), ())
    other = build("test_resnet", classes=4, weights=str(tmp_path / "tuned.safetensors"), head="multi-depth")
    assert other.weights.head_is_new


def test_dropout_of_the_architecture_and_auxiliary_heads_are_left_out() -> None:
    model = make("torchvision/mobilenet_v3_small", 32)
    assert not [part for part in model.module.modules() if isinstance(part, nn.Dropout)]
    assert make("torchvision/googlenet", 64).auxiliary is None


def test_a_map_as_wide_as_it_has_channels_is_told_by_the_other_stages() -> None:
    # 96 pixels at stride 2 and 48 channels, and the reverse order of dimensions.
    assert {tap.channel_dim for tap in build_on_meta("regnetx_004", img_size=128, head="multi-depth").depths.taps} == {
        1
    }
    swin = build_on_meta("torchvision/swin_t", img_size=384, head="multi-depth")
    assert [tap.channel_dim for tap in swin.depths.taps] == [3] * 5


def test_deep_models_give_twelve_stages() -> None:
    taps = build_on_meta("cait_xxs24_224", head="multi-depth").depths.taps
    assert len(taps) == 12
    assert taps[-1].path == "norm"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("test_resnet", {"drop": 0.5}, "no dropout"),
        ("test_resnet", {"head": "deep"}, "no head 'deep'"),
        ("crossvit_tiny_240", {}, "several classifiers"),
        ("qwen3_vit_88m_enc", {}, "has no classifier"),
    ],
)
def test_what_cannot_have_the_head_is_an_error(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as e:
        build(name, classes=3, weights="none", **{"head": "multi-depth", **options})
    assert e.value.hint


def test_a_damaged_description_is_an_error() -> None:
    values = record(make("test_resnet", 32))
    depths = Depths((Tap("layer9", 0, 1, 8),), 96)
    with pytest.raises(ModelError, match="cannot have this multi-depth head"):
        rebuild({**values, "depths": depths.to_dict()})
    with pytest.raises(ModelError, match="is damaged"):
        rebuild({**values, "depths": {"taps": [{"way": "layer1"}], "features": 96}})


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(10))
def test_every_family_has_a_multi_depth_head(chunk: int, small_models: list[str]) -> None:
    failures = {}
    for name in small_models[chunk::10]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = build_on_meta(name, classes=7, head="multi-depth")
                images = torch.empty(2, *model.preprocess.input_size, device="meta")
                assert model.module.eval()(images).shape == (2, 7)
                assert len(model.depths.taps) >= 3
            except (AssertionError, ModelError, RuntimeError) as e:
                failures[name] = str(e)
    assert set(failures) <= {"crossvit_tiny_240", "efficientvim_m1"}, failures
