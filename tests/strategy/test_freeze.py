"""Freeze plans: the grammar, and that frozen tensors stay bit-identical in training."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from zoo.errors import ModelError
from zoo.models import build, build_on_meta
from zoo.strategy.freeze import resolve_plan, set_train_mode


@pytest.fixture(scope="module")
def resnet():
    return build_on_meta("resnet18", classes=10)


def names(model, *groups):
    return {p for g in model.groups if g.name in groups for p in g.parameters}


def frozen(model, plan):
    return resolve_plan(plan, model.groups, model.module).frozen


@pytest.mark.parametrize(
    ("plan", "groups"),
    [
        ("none", ()),
        ("stem", ("stem",)),
        ("1", ("stem",)),
        ("3", ("stem", "stage1", "stage2")),
        ("stage2", ("stem", "stage1", "stage2")),
        ("layer2", ("stem", "stage1", "stage2")),
        ("40%", ("stem", "stage1")),
        ("100%", ("stem", "stage1", "stage2", "stage3", "stage4")),
        ("5", ("stem", "stage1", "stage2", "stage3", "stage4")),
        ("backbone", ("stem", "stage1", "stage2", "stage3", "stage4")),
        ("layer1.*,layer3.*", ("stage1", "stage3")),
        ("layer[13].*", ("stage1", "stage3")),
        ("backbone, !layer4.*", ("stem", "stage1", "stage2", "stage3")),
        ("!layer4.*,backbone", ("stem", "stage1", "stage2", "stage3", "stage4")),
    ],
)
def test_a_plan_freezes_the_named_groups(resnet, plan, groups):
    assert frozen(resnet, plan) == names(resnet, *groups)


def test_a_module_is_frozen_up_to_its_last_parameter(resnet):
    found = frozen(resnet, "layer2.0")
    assert found > names(resnet, "stem", "stage1")
    assert "layer2.0.downsample.1.bias" in found
    assert "layer2.1.conv1.weight" not in found


def test_the_name_of_a_parameter_freezes_that_parameter(resnet):
    assert frozen(resnet, "conv1.weight") == {"conv1.weight"}


def test_norm_keeps_norm_layers_and_head_trainable(resnet):
    trainable = {n for n, _ in resnet.module.named_parameters()} - frozen(resnet, "norm")
    assert "bn1.weight" in trainable
    assert "layer1.0.bn2.bias" in trainable
    assert "layer2.0.downsample.1.weight" in trainable  # found by its class, not by its name
    assert trainable >= names(resnet, "head")
    assert not [n for n in trainable if "conv" in n]


def test_norm_finds_layer_norms_and_norms_with_activations():
    for name, one in (("test_efficientnet", "bn1.weight"), ("test_convnext", "stages.0.blocks.0.norm.bias")):
        model = build_on_meta(name, classes=2)
        trainable = {n for n, _ in model.module.named_parameters()} - frozen(model, "norm")
        assert one in trainable
        assert len(trainable) > 4


def test_an_exclamation_mark_unfreezes(resnet):
    found = frozen(resnet, "backbone,!*.bn*")
    assert "layer1.0.bn1.weight" not in found
    assert "layer1.0.conv1.weight" in found
    assert "fc.weight" not in found


def test_the_plan_counts_trainable_parameters(resnet):
    plan = resolve_plan("backbone", resnet.groups, resnet.module)
    assert [(g.name, g.trainable) for g in plan.groups if g.trainable] == [("head", 5130)]
    assert plan.parameters == sum(p.numel() for p in resnet.module.parameters())
    assert plan.trainable == 5130
    assert plan.groups[1].modules == ("layer1",)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("layr1", "'layr1' matches nothing"),
        ("layer9.*", "'layer9.*' matches nothing"),
        ("stem,!nothing*", "'nothing*' matches nothing"),
        ("", "'' matches nothing"),
        ("stem,", "'' matches nothing"),
        ("0", "give 1 to 5"),
        ("6", "give 1 to 5"),
        ("0%", "give 1 to 100%"),
        ("101%", "give 1 to 100%"),
        ("1%", "'1%' matches nothing"),
        ("none,stem", "none cannot be combined"),
        ("head", "leaves no trainable parameters"),
        ("fc", "leaves no trainable parameters"),
        ("*", "leaves no trainable parameters"),
    ],
)
def test_an_invalid_plan_is_an_error_that_lists_the_groups(resnet, plan, message):
    with pytest.raises(ModelError) as e:
        frozen(resnet, plan)
    assert message in e.value.message
    assert "stage4" in e.value.hint or plan == "none,stem"


@pytest.mark.parametrize("library", ["", "torchvision/"])
@pytest.mark.parametrize(
    ("plan", "trainable"),
    [
        ("none", r".*"),
        ("backbone", r"fc\."),
        ("stem", r"(layer|fc)"),
        ("3", r"(layer[34]|fc)"),
        ("50%", r"(layer[34]|fc)"),  # of five groups the first three: 2.5 is rounded up
        ("stage2", r"(layer[34]|fc)"),
        ("layer2", r"(layer[34]|fc)"),
        ("layer3.0.bn1", r"(layer3\.0\.(conv2|bn2|downsample)|layer3\.1|layer4|fc)"),
        ("layer1.*,layer2.*", r"(conv1|bn1|layer[34]|fc)"),
        ("backbone,!*.bn*", r"(layer.*\.bn|fc)"),
        ("norm", r"(bn1|layer.*\.bn|layer.*downsample\.1|fc)"),
    ],
)
def test_a_plan_means_the_same_in_both_libraries(library, plan, trainable):
    model = build_on_meta(f"{library}resnet18", classes=3)
    found = {n for n, _ in model.module.named_parameters()} - frozen(model, plan)
    assert found == {n for n, _ in model.module.named_parameters() if re.match(trainable, n)}


@pytest.mark.parametrize("plan", ["auto", "head,oops"])
def test_an_unknown_plan_lists_the_forms(resnet, plan):
    with pytest.raises(ModelError, match="matches nothing") as e:
        frozen(resnet, plan)
    assert "none, backbone, norm, N or N%" in e.value.hint


def test_similar_names_are_suggested(resnet):
    with pytest.raises(ModelError) as e:
        frozen(resnet, "layr1")
    assert "did you mean layer1" in e.value.hint


def test_a_model_without_a_head_cannot_be_frozen_completely():
    model = build_on_meta("vit_small_patch14_dinov2")
    with pytest.raises(ModelError, match="leaves no trainable"):
        frozen(model, "backbone")


def train(model, plan, steps=3):
    """The state before and after a few steps of SGD with momentum and weight decay."""
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # norm layers with weight 0 hide the layers before them
    plan.apply(model.module)
    set_train_mode(model.module, plan)
    before = {k: t.clone() for k, t in model.module.state_dict().items()}
    trainable = [p for p in model.module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(steps):
        images = torch.randn(4, *model.preprocess.input_size) * 3 + 1
        nn.functional.cross_entropy(model.module(images), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
        optimizer.zero_grad()
    return before, model.module.state_dict()


UNFROZEN = {
    "test_resnet": "layer*.bn2.*",
    "test_vit": "blocks.*.norm1.*",
    "torchvision/mobilenet_v3_small": "features.*.block.*.1.*",
}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_resnet", {"img_size": 32, "drop_path": 0.2}),
        ("test_vit", {"img_size": 32, "drop_path": 0.2}),
        ("torchvision/mobilenet_v3_small", {"img_size": 32}),
    ],
)
@pytest.mark.parametrize("text", ["backbone", "2", "norm", "UNFROZEN", "none"])
def test_frozen_tensors_stay_identical_and_trainable_ones_change(name, options, text):
    torch.manual_seed(0)
    model = build(name, classes=3, weights="none", **options)
    if text == "UNFROZEN":  # names of norm layers differ
        text = f"backbone,!{UNFROZEN[name]}"
    plan = resolve_plan(text, model.groups, model.module)
    before, after = train(model, plan)
    for key, _ in model.module.named_parameters():
        assert torch.equal(before[key], after[key]) == (key in plan.frozen), key
    for group in model.groups:
        if plan.frozen.issuperset(group.parameters):
            assert all(torch.equal(before[b], after[b]) for b in group.buffers if b in before), group.name
    still = {b for g in model.groups if plan.frozen.issuperset(g.parameters) for b in g.buffers}
    moving = [b for g in model.groups for b in g.buffers if b.endswith("running_mean") and b not in still]
    in_trainable_layers = [b for b in moving if b.replace("running_mean", "weight") not in plan.frozen]
    assert all(not torch.equal(before[b], after[b]) for b in in_trainable_layers)
    partly = [b for b in moving if b not in in_trainable_layers]
    assert all(torch.equal(before[b], after[b]) for b in partly)


def test_dropout_is_off_in_frozen_modules_and_on_before_the_head():
    model = build("test_vit", classes=3, weights="none", drop=0.5, drop_path=0.5, img_size=32)
    plan = resolve_plan("backbone", model.groups, model.module)
    plan.apply(model.module)
    set_train_mode(model.module, plan)
    images = torch.randn(2, 3, 32, 32)
    features = [model.module.forward_features(images) for _ in range(2)]
    assert torch.equal(*features)
    assert not torch.equal(*(model.module.forward_head(features[0]) for _ in range(2)))
    assert not model.module.blocks[3].drop_path1.training
    assert model.module.head_drop.training


def test_gradients_of_frozen_parameters_are_deleted():
    model = build("test_resnet", classes=3, weights="none")
    for parameter in model.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    resolve_plan("stem", model.groups, model.module).apply(model.module)
    held = {n for n, p in model.module.named_parameters() if p.grad is not None}
    assert held == {n for n, _ in model.module.named_parameters()} - set(model.groups[0].parameters)


def test_another_plan_unfreezes_parameters_of_the_first():
    model = build("test_resnet", classes=3, weights="none")
    for text in ("backbone", "none"):
        plan = resolve_plan(text, model.groups, model.module)
        plan.apply(model.module)
        set_train_mode(model.module, plan)
    assert all(p.requires_grad for p in model.module.parameters())
    assert all(m.training for m in model.module.modules())


def test_shared_modules_are_frozen_once():
    model = build_on_meta("coat_tiny", classes=3)
    plan = resolve_plan("backbone", model.groups, model.module)
    plan.apply(model.module)
    assert {n for n, p in model.module.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    assert "cpe1" in plan.frozen_modules
