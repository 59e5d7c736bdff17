from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from zoo.errors import ModelError
from zoo.models import build, build_on_meta
from zoo.strategy.freeze import make_plan, resolve_plan, set_train_mode
from zoo.strategy.unfreeze import groups_unfrozen, unfreeze_plan


@pytest.fixture(scope="module")
def resnet():
    return build_on_meta("resnet18", classes=10)


def _trainable_groups(model, text: str, unfrozen: int) -> list[str]:
    plan = unfreeze_plan(resolve_plan(text, model.groups, model.module), model.groups, model.module, unfrozen)
    return [group.name for group in plan.groups if group.trainable]


@pytest.mark.parametrize(
    ("unfrozen", "trainable"),
    [
        (0, ["head"]),
        (1, ["stage4", "head"]),
        (3, ["stage2", "stage3", "stage4", "head"]),
        (5, ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
        (99, ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
    ],
)
def test_groups_are_unfrozen_from_the_head(resnet, unfrozen: int, trainable: list[str]) -> None:
    assert _trainable_groups(resnet, "none", unfrozen) == trainable


def test_frozen_groups_stay_frozen_and_are_not_counted(resnet) -> None:
    assert _trainable_groups(resnet, "2", 2) == ["stage3", "stage4", "head"]
    assert _trainable_groups(resnet, "2", 9) == ["stage2", "stage3", "stage4", "head"]
    # Surgical fine-tuning: the last stages stay frozen, so the first step unfreezes stage2.
    assert _trainable_groups(resnet, "stage4,!layer1.*,!layer2.*", 1) == ["stage2", "head"]
    base = resolve_plan("*.bn1.*", resnet.groups, resnet.module)
    for unfrozen in range(6):
        assert base.frozen <= unfreeze_plan(base, resnet.groups, resnet.module, unfrozen).frozen
    assert unfreeze_plan(base, resnet.groups, resnet.module, 5) == base


def test_the_text_shows_the_progress(resnet) -> None:
    base = resolve_plan("stem", resnet.groups, resnet.module)
    assert unfreeze_plan(base, resnet.groups, resnet.module, 1).text == "stem, 1 of 4 groups unfrozen"


def test_epochs() -> None:
    assert [groups_unfrozen(epoch, 1) for epoch in range(4)] == [0, 1, 2, 3]
    assert [groups_unfrozen(epoch, 2) for epoch in range(6)] == [0, 0, 1, 1, 2, 2]


def test_a_frozen_head_needs_an_unfrozen_group(resnet) -> None:
    plan = resolve_plan("head,!layer4.*", resnet.groups, resnet.module)
    with pytest.raises(ModelError, match="leaves no trainable parameters"):
        unfreeze_plan(plan, resnet.groups, resnet.module, 0)
    assert [g.name for g in unfreeze_plan(plan, resnet.groups, resnet.module, 1).groups if g.trainable] == ["stage4"]


def test_a_plan_from_parameter_names(resnet) -> None:
    resolved = resolve_plan("stage2", resnet.groups, resnet.module)
    assert make_plan("stage2", [*resolved.frozen, "no.such"], resnet.groups, resnet.module) == resolved


def test_training_changes_only_unfrozen_groups() -> None:
    torch.manual_seed(0)
    model = build("test_resnet", classes=3, weights="none")
    module, base = model.module, resolve_plan("none", model.groups, model.module)
    base.apply(module)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.1)
    images, targets = torch.randn(6, 3, 64, 64), torch.tensor([0, 1, 2, 0, 1, 2])
    for epoch in range(4):
        plan = unfreeze_plan(base, model.groups, module, groups_unfrozen(epoch, 1))
        plan.apply(module)
        set_train_mode(module, plan)
        before = {k: v.clone() for k, v in module.state_dict().items()}
        F.cross_entropy(module(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        unfrozen = {g.name for g in [*model.groups[-1 - epoch : -1], model.groups[-1]]}
        changed = {
            group.name
            for group in model.groups
            for key in (*group.parameters, *group.buffers)
            if not torch.equal(module.state_dict()[key], before[key])
        }
        assert changed == unfrozen
