"""The options of a fine-tuning run, and the filters of `zoo list`, each declared once.

From the declarations below come the keywords of the Python API (`zoo.finetune(lr=1e-3)`), the flags of the commands
(`--lr 1e-3`), the keys of the recipe (`optimizer.lr`), the text of `--help` and the pages in docs/reference/. To add an
option, add one line here and the field to the recipe. This module is imported at start-up and must stay light.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_args, get_type_hints

from zoo.data.sources.registry import describe_sources


@dataclass(frozen=True)
class Option:
    """Everything about an option but its name and type.

    Args:
        key: dotted key of the recipe, or None for an option that is no recipe field.
        help: one sentence without a full stop, with the unit; it also describes the recipe field.
        default: shown by `--help` as "(default: …)"; left out if each recipe has its own.
        metavar: placeholder of the value in `--help`.
        flags: the flags, if they are not made from the name.
        completion: what the shell completes the value with.
        minimum: for a value that is a whole number or `auto`: the lowest number.
    """

    key: str | None
    help: str
    default: str | None = None
    metavar: str | None = None
    flags: tuple[str, ...] = ()
    completion: Literal["recipe"] | None = None
    minimum: int | None = None


# fmt: off
class DataOptions(TypedDict, total=False):
    """The images, their labels and the split."""

    data: Annotated[str | Path | None, Option(
        "data.source", f"images: {describe_sources()}",
        default="digits", metavar="PATH|NAME",
    )]
    val: Annotated[str | Path | None, Option(
        "data.val", "validation images, if they are not part of the training data", metavar="PATH"
    )]
    task: Annotated[str | None, Option(
        "task", "what to predict: single-label, multi-label or regression", default="inferred from the labels",
        metavar="TASK",
    )]
    image_column: Annotated[str | None, Option(
        "data.image_column", "table column with the image paths", default="found by its name", metavar="NAME"
    )]
    label_column: Annotated[str | Sequence[str] | None, Option(
        "data.label_column", "table column with the labels or targets; several columns for several targets",
        default="found by its name", metavar="NAME",
    )]
    label_separator: Annotated[str | None, Option(
        "data.label_separator", "separator of several labels in one table cell", metavar="TEXT"
    )]
    split_column: Annotated[str | None, Option(
        "data.split_column", "table column that assigns the images to train, val or test", default="found by its name",
        metavar="NAME",
    )]
    group_column: Annotated[str | None, Option(
        "data.group_column", "table column of groups, such as patients, that a split must not divide", metavar="NAME"
    )]
    folds: Annotated[int | None, Option("data.folds", "number of folds for cross-validation", metavar="N")]
    fold: Annotated[int | None, Option(
        "data.fold", "with folds: the fold to validate on, counted from 1", metavar="N"
    )]
    split: Annotated[str | Path | None, Option(
        "data.split", "run whose split is used again, or a file with the names of the validation images",
        metavar="RUN|FILE",
    )]
    balance: Annotated[str | None, Option(
        "data.balance", "sampling of the classes: none (as in the data), oversample (all equally often) or "
        "sqrt (by the square root of their counts)", default="none", metavar="MODE",
    )]
    fit: Annotated[str | None, Option(
        "data.fit", "images of another aspect ratio: crop to the center, squash, pad with a border, or auto (as the "
        "model's preprocessing does)", default="auto", metavar="MODE",
    )]
    norm: Annotated[str | None, Option(
        "data.norm", "channel mean and standard deviation: model (as pretrained), data (measured), or auto (data if "
        "the model's do not fit)", default="auto", metavar="MODE",
    )]


class ModelOptions(TypedDict, total=False):
    """The model, its weights and what is frozen."""

    classes: Annotated[int | None, Option(
        "model.classes", "number of classes, labels or targets; checked against the data",
        default="inferred from the data", metavar="N", flags=("--classes", "--num-classes"),
    )]
    in_chans: Annotated[int | None, Option("model.in_chans", "number of input channels", default="3", metavar="N")]
    img_size: Annotated[int | None, Option(
        "model.img_size", "input height and width in pixels", default="the model's", metavar="N"
    )]
    weights: Annotated[str | Path | None, Option(
        "model.weights", "initial weights: default (pretrained), none (random), a tag, a .safetensors or .pth file, a "
        "run, hf-hub:OWNER/NAME or local-dir:DIR", default="default", metavar="WEIGHTS",
    )]
    drop: Annotated[float | None, Option(
        "model.drop", "dropout rate before the head", default="the model's", metavar="RATE"
    )]
    drop_path: Annotated[float | None, Option(
        "model.drop_path", "stochastic depth rate", default="the model's", metavar="RATE"
    )]
    pool: Annotated[str | None, Option(
        "model.pool", "global pooling before the head, such as avg, max or avgmax; timm models only",
        default="the model's", metavar="NAME",
    )]
    freeze: Annotated[str | int | None, Option(
        "freeze", "frozen layers: none, backbone, norm (train only norm layers and head), the first N groups or N%, up "
        "to a group or module, globs over parameter names, or auto (chosen by measuring the data)", metavar="PLAN",
    )]


class TrainingOptions(TypedDict, total=False):
    """The recipe, the epochs and the batches."""

    recipe: Annotated[str | Path | None, Option(
        None, "name from `zoo recipes`, YAML file, run, or auto (chosen by measuring the data)",
        default="head-only with --freeze backbone, else full", metavar="RECIPE", flags=("--recipe", "-r"),
        completion="recipe",
    )]
    settings: Annotated[Mapping[str, Any] | None, Option(
        None, "any recipe field by its key, such as train.epochs=5; may be repeated",
        metavar="KEY=VALUE", flags=("--set",),
    )]
    epochs: Annotated[int | None, Option("train.epochs", "number of passes over the training images", metavar="N")]
    batch_size: Annotated[int | str | None, Option(
        "data.batch_size", "images per step on one device; auto: the fastest that fits into memory and leaves 8 steps "
        "per epoch", metavar="N|auto", flags=("--batch-size", "-b"), minimum=1,
    )]
    grad_accum_steps: Annotated[int | None, Option(
        "train.grad_accum_steps", "number of batches per optimizer step", metavar="N"
    )]
    monitor: Annotated[str | None, Option(
        "train.monitor", "validation metric that selects the best epoch; auto: the task's default", metavar="METRIC"
    )]
    patience: Annotated[int | None, Option(
        "train.patience", "early stopping: epochs without improvement before training stops", metavar="N"
    )]
    model_ema: Annotated[bool | None, Option(
        "train.model_ema", "validate and save an exponential moving average (EMA) of the weights"
    )]
    linear_probe: Annotated[str | None, Option(
        "train.linear_probe", "fit a linear head on cached features directly (L-BFGS or ridge), without steps: on, off "
        "or auto (where possible)", metavar="auto|on|off",
    )]
    refit: Annotated[bool | None, Option(
        "train.refit", "after validation, fit the linear probe again on all images, validation images included (in a "
        "recipe also auto: if there is a linear probe and zoo split off the validation images)"
    )]
    views: Annotated[int | None, Option(
        "train.views", "number of augmented views per training image in the feature cache, used in turn",
        metavar="N",
    )]
    seed: Annotated[int | None, Option(
        "train.seed", "random seed of split, head, data order and augmentation", default="0", metavar="N"
    )]


class OptimizationOptions(TypedDict, total=False):
    """Loss, optimizer and learning-rate schedule."""

    loss: Annotated[str | None, Option(
        "loss.name", "loss function, or module:attribute; auto: the task's default", metavar="NAME"
    )]
    class_weights: Annotated[str | Path | None, Option(
        "loss.class_weights", "class weights of the loss: none, balanced, effective, or a JSON or CSV file of names "
        "and weights", metavar="MODE|FILE",
    )]
    opt: Annotated[str | None, Option("optimizer.name", "optimizer, or module:attribute", metavar="NAME")]
    lr: Annotated[float | None, Option(
        "optimizer.lr", "learning rate of the backbone's last stage, and of the head unless head_lr is given",
        metavar="RATE",
    )]
    head_lr: Annotated[float | None, Option("optimizer.head_lr", "learning rate of the head", metavar="RATE")]
    layer_decay: Annotated[float | None, Option(
        "optimizer.layer_decay", "learning-rate factor per layer group, from the head down", metavar="FACTOR"
    )]
    weight_decay: Annotated[float | None, Option(
        "optimizer.weight_decay", "weight decay of all parameters except biases and norm layers", metavar="DECAY"
    )]
    clip_grad: Annotated[float | None, Option("train.clip_grad", "maximum norm of the gradient", metavar="NORM")]
    sched: Annotated[str | None, Option(
        "schedule.name", "learning-rate schedule, or module:attribute", metavar="NAME"
    )]
    warmup_epochs: Annotated[float | None, Option(
        "schedule.warmup_epochs", "epochs of linear warmup before the schedule", metavar="EPOCHS"
    )]


class RuntimeOptions(TypedDict, total=False):
    """Device, precision, speed and caches."""

    device: Annotated[str | None, Option(
        "train.device", "auto, cpu, cuda, cuda:N or mps", default="auto", metavar="DEVICE"
    )]
    amp: Annotated[bool | None, Option("train.amp", "automatic mixed precision, where the hardware is faster with it")]
    amp_dtype: Annotated[str | None, Option(
        "train.amp_dtype", "precision: bf16, fp16, fp32 or auto (measured on the first batch)", default="auto",
        metavar="TYPE",
    )]
    channels_last: Annotated[bool | None, Option(
        "execution.memory_format", "memory format of convolutional models: channels_last (NHWC) or contiguous (NCHW); "
        "auto: the faster one, measured", default="auto",
    )]
    compile: Annotated[bool | None, Option(
        "execution.compile", "torch.compile for the training steps; auto: in long runs, if measured to save time",
        default="auto",
    )]
    threads: Annotated[int | str | None, Option(
        "execution.threads", "CPU threads of PyTorch in this process; auto: its default, or fewer if loader processes "
        "need the cores", default="auto", metavar="N|auto", minimum=1,
    )]
    workers: Annotated[int | str | None, Option(
        "data.workers", "data-loading processes; 0: load in the main process", default="auto",
        metavar="N|auto", flags=("--workers", "-j"), minimum=0,
    )]
    image_cache: Annotated[str | None, Option(
        "data.image_cache", "cache decoded images on disk: on, off or auto (if it makes the run faster)",
        default="auto", metavar="auto|on|off",
    )]
    feature_cache: Annotated[str | None, Option(
        "train.feature_cache", "cache the features of frozen layers on disk: on, off or auto (if it makes the run "
        "faster)", default="auto", metavar="auto|on|off",
    )]


class Filters(TypedDict, total=False):
    """Conditions of `zoo list` and `zoo.list_models`. A model whose value is unknown does not fulfil a limit."""

    source: Annotated[str | None, Option(None, "timm, torchvision or builtin", metavar="NAME")]
    family: Annotated[str | None, Option(
        None, "module that defines the model: name, glob or part of the name, such as resnet or vision_*",
        metavar="GLOB",
    )]
    license: Annotated[str | None, Option(
        None, "license of the pretrained weights: name, glob or part of the name, such as apache or cc-by-*",
        metavar="GLOB",
    )]
    pretrained: Annotated[bool, Option(None, "only models with pretrained weights", flags=("--pretrained",))]
    min_params: Annotated[float | str | None, Option(
        None, "minimum number of parameters, such as 300k, 25M or 1.5B", metavar="N"
    )]
    max_params: Annotated[float | str | None, Option(None, "maximum number of parameters", metavar="N")]
    max_gmacs: Annotated[float | None, Option(
        None, "maximum number of multiply-accumulates at the model's input size, in units of 1e9", metavar="N"
    )]
    input: Annotated[int | str | None, Option(
        None, "input size in pixels: 224, 3x224x224, or a range such as 160-256, -256 or 384-", metavar="SIZE"
    )]
    sort: Annotated[str, Option(
        None, "name, params, gmacs, input or tags (number of pretrained weights); - in front reverses the order",
        default="name", metavar="KEY",
    )]
    limit: Annotated[int | None, Option(None, "maximum number of models", metavar="N")]


# fmt: on
class Options(DataOptions, ModelOptions, TrainingOptions, OptimizationOptions, RuntimeOptions, total=False):
    """All options of `zoo.finetune`. None is the same as not given: the value of the recipe."""


# Heading of a group of options in `--help` → the group.
GROUPS: dict[str, type] = {
    "Data": DataOptions,
    "Model": ModelOptions,
    "Training": TrainingOptions,
    "Loss and optimizer": OptimizationOptions,
    "Runtime": RuntimeOptions,
    "Filters": Filters,
}


def declared(group: type) -> dict[str, tuple[Any, Option]]:
    """The options of a group by name: the type of the Python keyword, and the declaration with its flags."""
    hints = get_type_hints(group, include_extras=True)
    return {name: (hint.__origin__, _with_flags(name, hint)) for name, hint in hints.items()}


def _with_flags(name: str, hint: Any) -> Option:
    option: Option = hint.__metadata__[0]
    word = name.replace("_", "-")
    is_switch = bool in get_args(hint.__origin__)  # a switch that can be left out: bool | None
    return replace(option, flags=option.flags or (f"--{word}/--no-{word}" if is_switch else f"--{word}",))


OPTIONS: dict[str, Option] = {name: option for name, (_, option) in declared(Options).items()}
RECIPE_KEYS: dict[str, str] = {name: option.key for name, option in OPTIONS.items() if option.key is not None}


def flag(name: str) -> str:
    """The first flag of an option."""
    return OPTIONS[name].flags[0].partition("/")[0]


def to_flags(options: Options) -> list[str]:
    """`options` as words of a command line, `--set` last."""
    words: list[str] = []
    for name in sorted(OPTIONS, key=lambda name: name == "settings"):
        value: Any = options.get(name)
        if isinstance(value, bool):
            words.append(flag(name) if value else f"--no-{flag(name)[2:]}")
        elif value is not None:
            if isinstance(value, Mapping):
                value = [f"{key}={_yaml(item)}" for key, item in value.items()]
            values = [value] if isinstance(value, str | int | float | Path) else value
            words += [word for one in values for word in (flag(name), str(one))]
    return words


def _yaml(value: Any) -> str:
    """A value as YAML of one line; names such as `none` or `backbone` need no quotes."""
    plain = isinstance(value, str) and re.fullmatch(r"[a-z][\w.-]*", value) and value not in ("null", "true", "false")
    return value if plain else json.dumps(value)
