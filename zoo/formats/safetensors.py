"""The format `safetensors`: weights and config.json, for timm or, with a few lines of code, torchvision."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from torch import nn

from zoo.atomic_io import save_tensors, write_json
from zoo.errors import ExportError, first_line
from zoo.formats.preprocess_code import array_input_code, needs_array_input, prediction_code
from zoo.formats.spec import ExportSpec, Usage, check_logits
from zoo.tasks import get_task

# Keys of timm's pretrained_cfg that describe the pretrained weights and not the fine-tuned ones.
_STALE = frozenset(
    [
        *("url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict", "custom_load", "architecture", "tag"),
        *("origin_url", "paper_ids", "paper_name", "notes", "description"),
        *("label_names", "label_descriptions", "label_offset", "test_input_size", "test_crop_pct", "test_pool_size"),
    ]
)

_REPORT_HINT = "the run is not affected; please report it"


def write(spec: ExportSpec, folder: Path) -> Usage:
    """Write model.safetensors and config.json, and check them with the library alone.

    Raises ExportError if the files cannot be written, if the library has no class for the model, or if the loaded model
    gives other logits.
    """
    if spec.model.depths is not None:
        library = "torchvision" if spec.model.source == "torchvision" else "timm"
        raise ExportError(
            f"the format safetensors is loaded by {library}, which has no multi-depth head", "use --format torch-export"
        )
    state = spec.model.module.state_dict()
    save_tensors(folder / "model.safetensors", state, {"format": "pt"}, ExportError)
    if spec.model.source == "torchvision":
        write_json(folder / "config.json", _torchvision_config(spec), ExportError)
        check_logits(spec, _load_torchvision(spec, folder), "the exported model, loaded with torchvision,")
        return _torchvision_usage(spec)
    write_json(folder / "config.json", _timm_config(spec), ExportError)
    check_logits(spec, _load_timm(folder), "the exported model, loaded with timm,")
    return _timm_usage(spec)


# --- timm ------------------------------------------------------------------------------------------------------------


def _timm_config(spec: ExportSpec) -> dict[str, Any]:
    """A config.json with the keys of `timm.models.save_for_hf`."""
    model = spec.model
    args = {**model.args, "num_classes": model.classes, "in_chans": spec.preprocess.channels}
    return {
        "architecture": model.architecture,
        "num_classes": model.classes,
        "task": spec.task,
        "num_features": getattr(model.module, "num_features", None),
        "label_names": list(spec.classes),
        "model_args": args,
        "pretrained_cfg": _pretrained_cfg(spec),
    }


def _pretrained_cfg(spec: ExportSpec) -> dict[str, Any]:
    from timm.models import PretrainedCfg

    original, preprocess = spec.model.pretrained_cfg, spec.preprocess
    known = {f.name for f in dataclasses.fields(PretrainedCfg)} - _STALE
    cfg = {k: v for k, v in original.items() if k in known}
    if cfg.get("min_input_size"):
        cfg["min_input_size"] = [preprocess.channels, *cfg["min_input_size"][1:]]
    if tuple(original.get("input_size") or ())[1:] != preprocess.input_size[1:]:
        cfg["pool_size"] = None  # valid for the old input size only
    own = {k: v for k, v in preprocess.to_dict().items() if k in known}
    return cfg | own | {"num_classes": spec.model.classes, "license": spec.license or "unknown"}


def _load_timm(folder: Path) -> nn.Module:
    import timm

    try:
        module: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise ExportError(f"timm cannot load the exported model: {first_line(e)}", _REPORT_HINT) from e
    return module.eval()


def _timm_usage(spec: ExportSpec) -> Usage:
    load = 'import timm; timm.create_model("local-dir:" + folder, pretrained=True)'
    if needs_array_input(spec.preprocess):
        code = f"""
import numpy as np
import timm
import torch
from torchvision.transforms import v2

model = timm.create_model("local-dir:.", pretrained=True).eval()
{array_input_code(spec.preprocess)}
{get_task(spec.task).output_code('model.pretrained_cfg["label_names"]')}
"""
        return Usage("timm", code, load)
    mode = "L" if spec.preprocess.channels == 1 else "RGB"
    code = f"""
import timm
import torch
from PIL import Image, ImageOps

model = timm.create_model("local-dir:.", pretrained=True).eval()
config = timm.data.resolve_model_data_config(model)
transform = timm.data.create_transform(**config, is_training=False)

image = ImageOps.exif_transpose(Image.open("image.jpg")).convert("{mode}")
with torch.inference_mode():
    outputs = model(transform(image).unsqueeze(0))
{get_task(spec.task).output_code('model.pretrained_cfg["label_names"]')}
"""
    return Usage("timm", code, load)


# --- torchvision -----------------------------------------------------------------------------------------------------


def _torchvision_config(spec: ExportSpec) -> dict[str, Any]:
    model = spec.model
    stem = _stem(spec)
    return {
        "library": "torchvision",
        "architecture": model.architecture,
        "model_args": {**model.args, "num_classes": model.classes},
        "num_classes": model.classes,
        "task": spec.task,
        "label_names": list(spec.classes),
        "preprocess": spec.preprocess.to_dict(),
        **({"first_conv": stem[0]} if stem else {}),
        "license": spec.license or "unknown",
    }


def _stem(spec: ExportSpec) -> tuple[str, nn.Conv2d] | None:
    """Path and module of the first convolution, if torchvision cannot build it: not 3 channels."""
    if spec.preprocess.channels == 3:
        return None
    return next((path, part) for path, part in spec.model.module.named_modules() if isinstance(part, nn.Conv2d))


def _load_torchvision(spec: ExportSpec, folder: Path) -> nn.Module:
    """Load the files as the model card describes."""
    import torchvision
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    args = {k: tuple(v) if isinstance(v, list) else v for k, v in config["model_args"].items()}
    module: nn.Module = torchvision.models.get_model(config["architecture"], weights=None, **args)
    if stem := _stem(spec):
        module.set_submodule(stem[0], nn.Conv2d(**_convolution(stem[1])))
    state = load_file(folder / "model.safetensors")
    if _needs_version(module):
        own = module.state_dict()
        own.update(state)
        state = own
    try:
        module.load_state_dict(state)
    except RuntimeError as e:
        message = str(e).strip().splitlines()[-1].strip()
        raise ExportError(f"torchvision cannot load the exported model: {message}", _REPORT_HINT) from e
    return module.eval()


def _needs_version(module: nn.Module) -> bool:
    """MNASNet requires the version metadata of its state dict, which safetensors does not store."""
    return type(module).__name__ == "MNASNet"


def _load_lines(spec: ExportSpec, file: str) -> list[str]:
    if _needs_version(spec.model.module):
        return ["state = model.state_dict()", f"state.update(load_file({file}))", "model.load_state_dict(state)"]
    return [f"model.load_state_dict(load_file({file}))"]


def _convolution(conv: nn.Conv2d) -> dict[str, Any]:
    """Constructor arguments of `conv`."""
    return {
        "in_channels": conv.in_channels,
        "out_channels": conv.out_channels,
        "kernel_size": tuple(conv.kernel_size),
        "stride": tuple(conv.stride),
        "padding": conv.padding if isinstance(conv.padding, str) else tuple(conv.padding),
        "bias": conv.bias is not None,
    }


def _torchvision_usage(spec: ExportSpec) -> Usage:
    model, preprocess = spec.model, spec.preprocess
    args = _torchvision_config(spec)["model_args"]
    given = "".join(f", {k}={tuple(v) if isinstance(v, list) else v!r}" for k, v in args.items())
    make = [f'model = torchvision.models.get_model("{model.architecture}", weights=None{given})']
    if stem := _stem(spec):
        values = ", ".join(f"{k}={v!r}" for k, v in _convolution(stem[1]).items())
        make.append(f'model.set_submodule("{stem[0]}", torch.nn.Conv2d({values}))')
    here, there = _load_lines(spec, '"model.safetensors"'), _load_lines(spec, 'folder + "/model.safetensors"')
    build = "\n".join([*make, *here])
    imports = ["import torch, torchvision", "from safetensors.torch import load_file"]
    load = "; ".join([*imports, *make, *there])
    code = prediction_code(
        preprocess,
        spec.task,
        imports=["import torchvision", "from safetensors.torch import load_file"],
        build=f"{build}\nmodel.eval()",
    )
    return Usage("torchvision", code, load)
