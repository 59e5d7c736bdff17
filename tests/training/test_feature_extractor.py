from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor, nn

from zoo.models import build
from zoo.strategy.freeze import resolve_plan, set_train_mode
from zoo.training.feature_extractor import FeatureExtractor, find_feature_extractor


def _frozen(name: str, plan: str, size: int = 64) -> tuple[nn.Module, FeatureExtractor | None, Tensor]:
    torch.manual_seed(0)
    model = build(name, classes=5, weights="none", img_size=size)
    frozen = resolve_plan(plan, model.groups, model.module)
    frozen.apply(model.module)
    set_train_mode(model.module, frozen)
    images = torch.randn(4, 3, size, size)
    return model.module, find_feature_extractor(model.module, frozen.frozen_modules, images), images


CASES = [
    ("resnet18", "backbone", "fc", True),
    ("resnet18", "stage3", "layer3", False),
    ("torchvision/resnet18", "stage3", "layer3", False),
    ("torchvision/mobilenet_v3_small", "backbone", "classifier.0", False),
    ("test_vit", "backbone", "head", True),
    ("test_vit", "4", "blocks.2", False),
    ("test_efficientnet", "2", "blocks.0", False),
    ("test_convnext", "stage2", "stages.1", False),
    ("zoo_tiny", "backbone", "fc", True),
]


@pytest.mark.parametrize(("name", "plan", "end", "before"), CASES)
def test_three_steps_on_features_equal_those_of_the_whole_network(name: str, plan: str, end: str, before: bool) -> None:
    """Training mode, dropout and batch norm included: cached features give the same weights."""
    module, feature_extractor, images = _frozen(name, plan)
    assert feature_extractor is not None
    if saved := feature_extractor.to_dict():  # for a later run
        assert FeatureExtractor.from_dict(module, json.loads(json.dumps(saved))) == feature_extractor
    assert (feature_extractor.end, feature_extractor.before) == (end, before)
    whole = copy.deepcopy(module)
    features = feature_extractor.features(images)
    assert features.shape[1:] == feature_extractor.shape
    target = torch.tensor([0, 1, 2, 3])
    for net in (module, whole):
        trainable = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trainable, lr=0.05, momentum=0.9)
        torch.manual_seed(3)
        for _ in range(3):
            output = net(images) if net is whole else feature_extractor.forward_head(features)
            nn.functional.cross_entropy(output, target).backward()
            optimizer.step()
            optimizer.zero_grad()
    changed = 0
    for (key, one), other in zip(module.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.allclose(one.float(), other.float(), atol=1e-5), key
        changed += 1
    assert changed
    assert torch.allclose(feature_extractor.forward_head(features, whole.eval()), whole(images), atol=1e-4)


def test_finding_a_feature_extractor_changes_nothing() -> None:
    torch.manual_seed(0)
    model = build("resnet18", classes=5, weights="none", img_size=32)
    plan = resolve_plan("stage2", model.groups, model.module)
    plan.apply(model.module)
    set_train_mode(model.module, plan)
    before = copy.deepcopy(model.module)
    state = torch.get_rng_state()
    feature_extractor = find_feature_extractor(
        model.module, plan.frozen_modules, torch.randn(3, 3, 32, 32, generator=torch.Generator())
    )
    assert feature_extractor is not None
    assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(model.module.state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    for (name, one), other in zip(model.module.named_modules(), before.modules(), strict=True):
        assert one.training == other.training, name
        assert one.__dict__.keys() == other.__dict__.keys(), name
        assert not one._forward_hooks, name
        assert not one._forward_pre_hooks, name


class _Skips(nn.Module):
    """The trainable layers have two inputs from frozen layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.one(x)
        b = self.two(a)
        return torch.as_tensor(self.head(torch.cat([a.mean((2, 3)), b.mean((2, 3))], 1)))


class _Drops(nn.Module):
    """Dropout between the frozen and the trainable layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.drop, self.head = nn.Conv2d(3, 4, 1), nn.Dropout(0.5), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.drop(self.body(x).mean((2, 3)))))


class _Twice(nn.Module):
    """A frozen layer is also called after a trainable one."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mix, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.body(self.mix(self.body(x))).mean((2, 3))))


def _feature_extractor_of(module: nn.Module, *frozen: str) -> FeatureExtractor | None:
    for path in frozen:
        module.get_submodule(path).eval().requires_grad_(False)
    return find_feature_extractor(module, frozen, torch.randn(4, 3, 8, 8))


def test_two_inputs_of_the_trained_part() -> None:
    """The input of the classifier contains both."""
    feature_extractor = _feature_extractor_of(_Skips(), "one", "two")
    assert feature_extractor is not None
    assert (feature_extractor.end, feature_extractor.before, feature_extractor.shape) == ("head", True, (8,))


def test_dropout_stays_outside() -> None:
    feature_extractor = _feature_extractor_of(_Drops(), "body")
    assert feature_extractor is not None
    assert (feature_extractor.end, feature_extractor.before) == ("body", False)
    torch.manual_seed(0)
    features = feature_extractor.features(torch.randn(4, 3, 8, 8))
    assert not torch.equal(feature_extractor.forward_head(features), feature_extractor.forward_head(features))


def test_none_if_no_frozen_layer_comes_first() -> None:
    assert _feature_extractor_of(_Drops(), "head") is None
    assert _feature_extractor_of(_Skips(), "two") is None


def test_none_if_a_frozen_module_is_also_called_after_trainable_ones() -> None:
    assert _feature_extractor_of(_Twice(), "body") is None


def test_none_with_parallel_branches() -> None:
    assert _frozen("hrnet_w18_small", "3")[1] is None
