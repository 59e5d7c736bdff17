"""LoRA: the backbone's matrices are frozen, and a low-rank update of each is trained.

Hu et al. 2021 (2106.09685), section 4.1: W0 + (alpha / rank) · B A, where A (rank, inputs) is random and B (outputs,
rank) zero at the start, so the first step starts from the pretrained function.

The update is a parametrization of the weight (torch.nn.utils.parametrize), not a wrapped layer: many transformers use
`self.qkv.weight` directly (beit, eva, swin v2 in timm; torch's MultiheadAttention), where a wrapped layer would have no
effect. The cost is a gradient of the whole matrix in the backward pass; docs/transfer.md has the times.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from zoo.errors import ModelError

KINDS = ("attention", "all")
_PARAMETRIZED = re.compile(r"parametrizations\.(\w+)\.(?:original|0\.[ab])$")
_ATTENTION = re.compile(r"att(?:n|ention)", re.IGNORECASE)
_MULTIHEAD = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
# Number of projections in a fused matrix; each gets its own pair.
_BLOCKS = {"qkv": 3, "to_qkv": 3, "Wqkv": 3, "in_proj_weight": 3, "kv": 2, "to_kv": 2}


class LowRank(nn.Module):
    """weight (outputs, inputs) → weight + scale · B A, with one pair of matrices for each of `blocks` blocks of rows.

    a: (blocks, rank, inputs), uniform in ±1/√inputs as in loralib and peft. b: (blocks, outputs / blocks, rank), zero.
    """

    def __init__(self, weight: Tensor, *, rank: int, scale: float, blocks: int = 1) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        bound = inputs**-0.5
        # Drawn on the CPU: the same on every device.
        initial = torch.empty(blocks, rank, inputs).uniform_(-bound, bound)
        self.a = nn.Parameter(initial.to(weight))
        self.b = nn.Parameter(weight.new_zeros(blocks, outputs // blocks, rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return torch.add(weight, torch.bmm(self.b, self.a).view(weight.shape), alpha=self.scale)


@dataclass(frozen=True)
class LoraReport:
    """layers: names of the adapted matrices. parameters: number in all A and B. adapters: names of all A and B. frozen:
    names of all other parameters that are not trained."""

    layers: tuple[str, ...]
    parameters: int
    adapters: tuple[str, ...]
    frozen: tuple[str, ...]


def choose_layers(module: nn.Module, allowed: Collection[str], kind: str, *, rank: int = 8) -> tuple[str, ...]:
    """Names of the matrices in `module`, among `allowed` parameters, that get adapters.

    kind: "attention" (query, key, value and output projections, as in the paper's section 4.2) or "all" (all linear
    layers). Matrices that adapters of `rank` would not make smaller, and shared tensors, are left out. Raises
    ModelError if there is none, as in convolutional networks.
    """
    if kind not in KINDS:
        raise ModelError(f"no kind of LoRA layers {kind!r}", f"give {' or '.join(KINDS)}")
    uses = Counter(id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False))
    matrices = [(name, submodule, weight) for name, submodule, weight in _matrices(module) if uses[id(weight)] == 1]
    found = tuple(
        name
        for name, submodule, weight in matrices
        if name in allowed
        and (kind == "all" or isinstance(submodule, nn.MultiheadAttention) or _ATTENTION.search(name))
        and rank * (weight.shape[0] + _count_blocks(name, weight) * weight.shape[1]) < weight.numel()
    )
    if not found:
        what = "attention layer" if kind == "attention" else "linear layer"
        raise ModelError(
            f"{type(module).__name__} has no {what} that is trained and that LoRA of rank {rank} would make smaller",
            "LoRA is for transformers: choose one (zoo list 'vit*'), freeze less of it (freeze: none), "
            "set transfer.lora.layers=all, or leave transfer.lora out",
        )
    return found


def add_lora(
    module: nn.Module,
    names: Sequence[str],
    *,
    rank: int = 8,
    alpha: float | None = None,
    trainable: Collection[str] = (),
) -> LoraReport:
    """Add an adapter of `rank` to each matrix in `names` (from `choose_layers`); the outputs do not change.

    alpha: the update is scaled by alpha / rank; None: no scaling. trainable: names of other parameters to train (the
    head's); the rest is frozen. `base_name` maps the new parameter names to the old ones. Raises ModelError if rank or
    alpha is not positive.
    """
    if rank < 1 or (alpha is not None and alpha <= 0):
        raise ModelError(f"LoRA of rank {rank} with alpha {alpha}", "give a rank of at least 1 and a positive alpha")
    for parameter_name, parameter in module.named_parameters():
        parameter.requires_grad_(parameter_name in trainable)
    scale = (rank if alpha is None else alpha) / rank
    for name in names:
        path, _, tensor = name.rpartition(".")
        submodule = module.get_submodule(path)
        weight = submodule.get_parameter(tensor)
        adapter = LowRank(weight.detach(), rank=rank, scale=scale, blocks=_count_blocks(name, weight))
        parametrize.register_parametrization(submodule, tensor, adapter)
    named = dict(module.named_parameters())
    adapters = tuple(n for n in named if base_name(n) != n and not n.endswith(".original"))
    return LoraReport(
        layers=tuple(names),
        parameters=sum(named[n].numel() for n in adapters),
        adapters=adapters,
        frozen=tuple(n for n, p in named.items() if not p.requires_grad),
    )


def base_name(name: str) -> str:
    """The name without LoRA: `PATH.weight` for `PATH.parametrizations.weight.original` and its adapters."""
    return _PARAMETRIZED.sub(r"\1", name)


@torch.no_grad()
def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """`module.state_dict()` with adapters merged into the weights, under the names without LoRA.

    Unmerged tensors share memory with the module. Computed in full precision, also under autocast.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        base = base_name(name)
        if base == name:
            state[name] = tensor
        elif name.endswith(".original"):
            path, _, attribute = base.rpartition(".")
            with torch.autocast(tensor.device.type, enabled=False):
                state[base] = getattr(module.get_submodule(path), attribute).detach()
    return state


def _matrices(module: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """(full name, layer, weight (outputs, inputs)) of linear layers and of torch's MultiheadAttention."""
    for path, submodule in module.named_modules():
        multihead = isinstance(submodule, nn.MultiheadAttention)
        for attribute in _MULTIHEAD if multihead else ("weight",) if isinstance(submodule, nn.Linear) else ():
            weight = submodule._parameters.get(attribute)
            if weight is not None:
                yield f"{path}.{attribute}" if path else attribute, submodule, weight


def _count_blocks(name: str, weight: Tensor) -> int:
    layer = name.removesuffix(".weight").rpartition(".")[2]
    blocks = _BLOCKS.get(layer, 1)
    return blocks if weight.shape[0] % blocks == 0 else 1
