"""Gradual unfreezing: the head learns first, then one group more at a time, from the head towards the stem.

Howard and Ruder 2018 (1801.06146), section 3.3, open one group an epoch and train all that is open, so that the layers
with the least general knowledge move first and the others are not carried away by a new head's first gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from zoo.models.model import Group
from zoo.strategy.freeze import FreezePlan, make_plan

__all__ = ["groups_unfrozen", "unfreeze_plan"]


def groups_unfrozen(epoch: int, every: int) -> int:
    """How many groups are open in `epoch` (counted from 0) if one more opens after each `every` epochs (at least 1).

    0 in the first `every` epochs: only the head learns. It grows without end; `unfreeze_plan` takes any number.
    """
    return epoch // every


def unfreeze_plan(plan: FreezePlan, groups: Sequence[Group], module: nn.Module, unfrozen: int) -> FreezePlan:
    """`plan` with all but the last `unfrozen` groups of the backbone frozen as well; 0: only the head is open.

    groups: of `module`, stem first, the head last. Only groups in which `plan` leaves something to learn are counted,
    so that no step of the schedule passes without effect; what `plan` freezes stays frozen. From their number on the
    result is `plan` itself.

    To be applied, with `set_train_mode`, at the start of every epoch; build the optimizer under `plan`, so that it
    holds all parameters from the first step (those without a gradient are left alone by torch's optimizers).
    Raises ModelError if nothing would learn, which is so when `plan` freezes the head and `unfrozen` is 0.
    """
    trainable = [group for group in groups[:-1] if not plan.frozen.issuperset(group.parameters)]
    still_frozen = trainable[: max(len(trainable) - unfrozen, 0)]
    if not still_frozen:
        return plan
    text = f"{plan.text}, {len(trainable) - len(still_frozen)} of {len(trainable)} groups open"
    return make_plan(text, plan.frozen.union(*(group.parameters for group in still_frozen)), groups, module)
