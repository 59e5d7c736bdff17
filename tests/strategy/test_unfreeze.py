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


def _open(model, text: str, opened: int) -> list[str]:
    plan = unfreeze_plan(resolve_plan(text, model.groups, model.module), model.groups, model.module, opened)
    return [group.name for group in plan.groups if group.trainable]


@pytest.mark.parametrize(
    ("opened", "learn"),
    [
        (0, ["head"]),
        (1, ["stage4", "head"]),
        (3, ["stage2", "stage3", "stage4", "head"]),
        (5, ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
        (99, ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
    ],
)
def test_groups_open_from_the_head(resnet, opened: int, learn: list[str]) -> None:
    assert _open(resnet, "none", opened) == learn


def test_what_the_plan_freezes_stays_frozen_and_is_not_counted(resnet) -> None:
    assert _open(resnet, "2", 2) == ["stage3", "stage4", "head"]
    assert _open(resnet, "2", 9) == ["stage2", "stage3", "stage4", "head"]
    # Surgical: the last stages never learn; the first step opens what can.
    assert _open(resnet, "stage4,!layer1.*,!layer2.*", 1) == ["stage2", "head"]
    base = resolve_plan("*.bn1.*", resnet.groups, resnet.module)
    for opened in range(6):
        assert base.frozen <= unfreeze_plan(base, resnet.groups, resnet.module, opened).frozen
    assert unfreeze_plan(base, resnet.groups, resnet.module, 5) == base


def test_the_text_says_how_far_it_is(resnet) -> None:
    base = resolve_plan("stem", resnet.groups, resnet.module)
    assert unfreeze_plan(base, resnet.groups, resnet.module, 1).text == "stem, 1 of 4 groups open"


def test_epochs() -> None:
    assert [groups_unfrozen(epoch, 1) for epoch in range(4)] == [0, 1, 2, 3]
    assert [groups_unfrozen(epoch, 2) for epoch in range(6)] == [0, 0, 1, 1, 2, 2]


def test_a_frozen_head_needs_an_open_group(resnet) -> None:
    plan = resolve_plan("head,!layer4.*", resnet.groups, resnet.module)
    with pytest.raises(ModelError, match="leaves nothing to learn"):
        unfreeze_plan(plan, resnet.groups, resnet.module, 0)
    assert [g.name for g in unfreeze_plan(plan, resnet.groups, resnet.module, 1).groups if g.trainable] == ["stage4"]


def test_a_plan_of_names(resnet) -> None:
    resolved = resolve_plan("stage2", resnet.groups, resnet.module)
    assert make_plan("stage2", [*resolved.frozen, "no.such"], resnet.groups, resnet.module) == resolved


def test_training_moves_what_is_open_and_nothing_else() -> None:
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
        opened = {g.name for g in [*model.groups[-1 - epoch : -1], model.groups[-1]]}
        moved = {
            group.name
            for group in model.groups
            for key in (*group.parameters, *group.buffers)
            if not torch.equal(module.state_dict()[key], before[key])
        }
        assert moved == opened
