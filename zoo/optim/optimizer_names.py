"""Names of optimizers, from torch and timm. Listing them imports neither."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from zoo.errors import UsageError
from zoo.registry import RegistryEntry, resolve


@dataclass(frozen=True)
class TimmOptimizer(RegistryEntry):
    """An optimizer of timm's registry (path "timm:NAME"), with the parameters registered for it."""

    def load(self) -> Any:
        timm: Any = import_module("timm.optim")
        name = self.path.partition(":")[2]
        info = timm.get_optimizer_info(name)
        # The default momentum of timm's factory (timm.optim.create_optimizer_v2).
        momentum = {"momentum": 0.9} if info.has_momentum else {}
        return functools.partial(
            timm.get_optimizer_class(name, bind_defaults=False), **momentum, **(info.defaults or {})
        )


# torch's class names, with torch's defaults.
_TORCH: dict[str, str] = {
    "ASGD": "averaged SGD (Polyak and Juditsky 1992)",
    "Adadelta": "Zeiler 2012",
    "Adafactor": "Adam with a factored second moment (Shazeer and Stern 2018)",
    "Adagrad": "Duchi et al. 2011",
    "Adam": "Kingma and Ba 2015; weight decay is an L2 term",
    "AdamW": "Adam with decoupled weight decay (Loshchilov and Hutter 2019)",
    "Adamax": "Adam with the infinity norm",
    "NAdam": "Adam with Nesterov momentum (Dozat 2016)",
    "RAdam": "Adam with a rectified start (Liu et al. 2020)",
    "RMSprop": "Hinton's lecture 6e",
    "Rprop": "signs of gradients, for full-batch training (Riedmiller and Braun 1993); no weight decay",
    "SGD": "without momentum unless optimizer.params sets it",
}

# Short names in lower case for classes of torch. timm has all but asgd, for the same classes.
_SHORT: dict[str, RegistryEntry] = {
    name.lower(): RegistryEntry(f"torch.optim:{name}", _TORCH[name])
    for name in ("Adadelta", "Adagrad", "Adam", "Adamax", "AdamW", "ASGD", "NAdam", "RAdam", "RMSprop")
}
_SHORT["sgd"] = RegistryEntry("torch.optim:SGD", "with momentum 0.9 unless optimizer.params sets it", {"momentum": 0.9})
TIMM_SHARED = frozenset(_SHORT) - {"asgd"}

# timm's names, with the parameters of its registry; a test compares them with `timm.optim.list_optimizers()`.
_TIMM: dict[str, str] = {
    "adabelief": "AdaBelief (Zhuang et al. 2020)",
    "adafactor": "Adafactor (Shazeer and Stern 2018), timm's",
    "adafactorbv": "Adafactor of Big Vision (Zhai et al. 2022)",
    "adafactorbvc": "adafactorbv, corrected weight decay",
    "adamc": "AdamW, corrected weight decay",
    "adamp": "Adam with projection (Heo et al. 2021)",
    "adamuon": "Muon with an adaptive second moment; AdamW for other tensors",
    "adamwlegacy": "AdamW, timm's own code",
    "adan": "adaptive Nesterov momentum (Xie et al. 2022)",
    "adanw": "Adan with decoupled weight decay",
    "adopt": "ADOPT (Taniguchi et al. 2024)",
    "adoptc": "ADOPT, corrected weight decay",
    "adoptw": "ADOPT with decoupled weight decay",
    "cadafactor": "cautious adafactor",
    "cadafactorbv": "cautious adafactorbv",
    "cadafactorbvc": "cautious adafactorbvc",
    "cadamc": "cautious adamc",
    "cadamp": "cautious adamp",
    "cadamw": "cautious adamw",
    "cadan": "cautious adan",
    "cadanw": "cautious adanw",
    "cadopt": "cautious adopt",
    "cadoptc": "cautious adoptc",
    "cadoptw": "cautious adoptw",
    "clamb": "cautious lamb",
    "clambw": "cautious lambw",
    "claprop": "cautious laprop",
    "clion": "cautious lion",
    "clionc": "cautious lionc",
    "cmars": "cautious mars",
    "cnadamc": "cautious nadamc",
    "cnadamw": "cautious nadamw",
    "crmsproptf": "cautious rmsproptf",
    "csgdc": "cautious sgdc",
    "csgdp": "cautious sgdp",
    "csgdw": "cautious sgdw",
    "kron": "PSGD with a Kronecker-factored preconditioner; compiles itself",
    "kronc": "kron, corrected weight decay",
    "kronw": "kron with decoupled weight decay",
    "lamb": "LAMB (You et al. 2020)",
    "lambc": "LAMB, clipped trust ratio",
    "lambcd": "LAMB, corrected weight decay",
    "lambcw": "LAMB, clipped trust ratio, decoupled weight decay",
    "lambw": "LAMB with decoupled weight decay",
    "laprop": "LaProp (Ziyin et al. 2020)",
    "lapropc": "LaProp, corrected weight decay",
    "larc": "LARS, clipped trust ratio",
    "lars": "LARS (You et al. 2017)",
    "lion": "Lion (Chen et al. 2023); a tenth of Adam's learning rate",
    "lionc": "Lion, corrected weight decay",
    "madgrad": "MADGRAD (Defazio and Jelassi 2021)",
    "madgradw": "MADGRAD with decoupled weight decay",
    "mars": "MARS (Yuan et al. 2024)",
    "momentum": "SGD with momentum 0.9",
    "muon": "Muon (Jordan et al. 2024); AdamW for other tensors",
    "nadamc": "NAdamW, corrected weight decay",
    "nadamlegacy": "NAdam, timm's own code",
    "nadamuon": "AdaMuon with Nesterov momentum",
    "nadamw": "NAdam with decoupled weight decay",
    "nesterov": "SGD with Nesterov momentum 0.9",
    "nesterovw": "SGD with Nesterov momentum and decoupled weight decay",
    "nlarc": "LARC with Nesterov momentum",
    "nlars": "LARS with Nesterov momentum",
    "nmuon": "Muon with Nesterov momentum",
    "novograd": "NovoGrad (Ginsburg et al. 2019)",
    "novogradc": "NovoGrad, corrected weight decay",
    "novogradw": "NovoGrad with decoupled weight decay",
    "radabelief": "AdaBelief with a rectified start",
    "radamlegacy": "RAdam, timm's own code",
    "radamw": "RAdam with decoupled weight decay",
    "rmsproptf": "RMSprop as in TensorFlow",
    "rmsproptfc": "rmsproptf, corrected weight decay",
    "rmsproptfw": "rmsproptf with decoupled weight decay",
    "sgdc": "SGD with Nesterov momentum, corrected weight decay",
    "sgdp": "SGD with projection (Heo et al. 2021)",
    "sgdw": "SGD with Nesterov momentum and decoupled weight decay",
}

OPTIMIZERS: dict[str, RegistryEntry] = {
    **_SHORT,
    **{name: RegistryEntry(f"torch.optim:{name}", text) for name, text in _TORCH.items()},
    **{name: TimmOptimizer(f"timm:{name}", text) for name, text in _TIMM.items()},
}

_APEX = ("needs NVIDIA's apex, which is not tested here", "install it and name the class: apex.optimizers:FusedAdam")
_BITS = (
    "needs bitsandbytes and a GPU, which is not tested here",
    "install it and name the class: bitsandbytes.optim:Adam",
)

# Name → (the reason, what to do instead).
UNSUPPORTED: dict[str, tuple[str, str]] = {
    "LBFGS": (
        "evaluates the loss several times per step, and zoo computes it once",
        "use adamw or sgd; L-BFGS is meant for full-batch gradients",
    ),
    "Muon": ("takes only matrices, and models have biases, norms or kernels", "use muon or nmuon of timm"),
    "SparseAdam": ("takes only sparse gradients, and image models have none", "use Adam"),
    "adahessian": ("needs second derivatives, which zoo does not compute", "use adabelief or adamw"),
    **dict.fromkeys(("fusedadam", "fusedadamw", "fusedlamb", "fusednovograd", "fusedsgd"), _APEX),
    **{f"bnb{name}{bits}": _BITS for name in ("adam", "adamw", "ademamix", "lion", "sgd") for bits in ("", "8bit")},
}


def find_optimizer(name: str) -> Any:
    """The class or function called `name`. Raises UsageError with the reason if there is none."""
    if name in UNSUPPORTED:
        reason, advice = UNSUPPORTED[name]
        raise UsageError(f"optimizer {name!r} {reason}", advice)
    if name.startswith("lookahead_"):
        raise UsageError(
            f"optimizer {name!r}: timm's Lookahead wrapper is not supported",
            f"use {name.removeprefix('lookahead_')}; train.model_ema=true averages weights too",
        )
    found = resolve(name, OPTIMIZERS, "optimizer")
    if not callable(found):
        raise UsageError(f"optimizer {name!r} is a {type(found).__name__}, not a class or a function")
    return found
