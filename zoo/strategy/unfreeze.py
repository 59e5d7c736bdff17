"""Gradual unfreezing: the head is trained first, then one more group at a time, from the head towards the stem.

Howard and Ruder 2018 (arXiv 1801.06146), section 3.3: one group per epoch, and all unfrozen groups are trained.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from zoo.models.model import Group
from zoo.strategy.freeze import FreezePlan, make_plan


def groups_unfrozen(epoch: int, every: int) -> int:
    """Number of unfrozen backbone groups in `epoch` (from 0), with one more after every `every` epochs (at least 1)."""
    return epoch // every


def unfreeze_plan(plan: FreezePlan, groups: Sequence[Group], module: nn.Module, unfrozen: int) -> FreezePlan:
    """`plan` with all but the last `unfrozen` groups of the backbone frozen as well.

    Only groups in which `plan` leaves trainable parameters are counted; what `plan` freezes stays frozen. If
    `unfrozen` is at least their number, the result is `plan`. Apply it, with `set_train_mode`, at the start of every
    epoch; build the optimizer under `plan`, so that it has all parameters from the first step.

    Args:
        plan: The plan at the end of the unfreezing.
        groups: Groups of `module`, stem first, head last.
        module: The model.
        unfrozen: Number of unfrozen groups of the backbone; 0: only the head.

    Raises:
        ModelError: No parameter would be trainable (`plan` freezes the head and `unfrozen` is 0).
    """
    trainable = [group for group in groups[:-1] if not plan.frozen.issuperset(group.parameters)]
    still_frozen = trainable[: max(len(trainable) - unfrozen, 0)]
    if not still_frozen:
        return plan
    text = f"{plan.text}, {len(trainable) - len(still_frozen)} of {len(trainable)} groups unfrozen"
    return make_plan(text, plan.frozen.union(*(group.parameters for group in still_frozen)), groups, module)
