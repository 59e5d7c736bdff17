"""The fields of a recipe: types, ranges, defaults, and what each means."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "ExecutionConfig",
    "LoraConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ParamGroupConfig",
    "Recipe",
    "ScheduleConfig",
    "TrainConfig",
    "TransferConfig",
]


def on_or_off(value: Any) -> Any:
    """YAML 1.1 reads on and off as true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ModelConfig(_Config):
    name: str = Field("", description="model name: timm, torchvision/NAME or built-in; `zoo list` shows them")
    weights: str = Field(
        "default", description="default | none | a pretrained tag | a .safetensors or .pth file | a run"
    )
    classes: int | None = Field(
        None, ge=1, description="number of classes, labels or targets; checked against the data if given"
    )
    in_chans: int = Field(3, ge=1, description="input channels of the stem")
    img_size: int | None = Field(None, ge=1, description="input height and width in pixels; the model's own if absent")
    drop: float | None = Field(None, ge=0, lt=1, description="dropout rate before the head")
    drop_path: float | None = Field(None, ge=0, lt=1, description="stochastic depth rate")
    pool: str | None = Field(
        None, description="global pooling before the head, e.g. avg, max, avgmax; timm models only"
    )
    stem: Literal["auto", "sum", "repeat", "mean", "zero"] = Field(
        "auto", description="how pretrained filters meet other channel counts; auto: sum for 1 channel, else repeat"
    )
    head_init: Literal["default", "zero"] = Field(
        "default", description="a new head starts as the library does, or at zero"
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _null_to_none_text(cls, value: Any) -> Any:
        return "none" if value is None else value


class DataConfig(_Config):
    source: str = Field(
        "digits", description="a folder, an archive or a table of images, or hf:NAME, torchvision:NAME, digits"
    )
    image_column: str | None = Field(None, description="of a table: the column of paths; found by its name if absent")
    label_column: tuple[str, ...] = Field((), description="of a table: one column, or several for as many targets")
    label_separator: str | None = Field(None, description="of a table: what stands between several labels of an image")
    split_column: str | None = Field(None, description="of a table: the column that says train or val")
    group_column: str | None = Field(None, description="of a table: the column whose equal cells a split keeps whole")
    val: str | None = Field(None, description="a folder or table of validation images, if not inside `source`")
    val_fraction: float = Field(0.2, gt=0, lt=1, description="share held out when the source brings no validation part")
    folds: int | None = Field(None, ge=2, description="parts that cover all images, one of which is for validation")
    fold: int | None = Field(None, ge=1, description="with folds: which of them, counted from 1")
    split: str | None = Field(None, description="a file of names of validation images, or the run whose split to take")
    balance: Literal["none", "oversample", "sqrt"] = Field(
        "none", description="how often an epoch shows a class: as it is, all alike, by the square root of its count"
    )
    batch_size: int | Literal["auto"] = Field(
        32, description="images per step on one device; auto: as many as make it faster here, fit, and leave 8 updates"
    )
    workers: int | Literal["auto"] = Field("auto", description="loader processes; 0 decodes in the main process")
    unreadable: Literal["error", "skip"] = Field("error", description="files that cannot be read: refuse, or leave out")
    image_cache: Literal["auto", "on", "off"] = Field(
        "auto", description="decode images once and keep them on the disk; auto: in runs that it makes faster"
    )

    norm: Literal["auto", "model", "data"] = Field(
        "auto", description="mean and deviation: the model's or the data's; auto: the data's if the others do not fit"
    )
    fit: Literal["auto", "crop", "squash", "pad"] = Field(
        "auto", description="images of other shapes: cut the middle out, squash, or add a border; auto: as the model"
    )
    intensity_range: int | tuple[int, ...] | Literal["auto"] = Field(
        "auto", description="white of images beyond 8 bits, or of each channel; auto: the fewest bits that hold theirs"
    )

    @field_validator("intensity_range")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if value != "auto" and (value == () or min(value if isinstance(value, tuple) else (value,)) < 1):
            raise ValueError("Input should be auto, a number from 1 up, or a list of such")
        return value

    @field_validator("image_cache", mode="before")
    @classmethod
    def _bool_to_on_off(cls, value: Any) -> Any:
        return on_or_off(value)

    @field_validator("label_column", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return () if value is None else (value,) if isinstance(value, str) else value

    @field_validator("batch_size")
    @classmethod
    def _at_least_one(cls, value: Any) -> Any:
        if isinstance(value, int) and value < 1:
            raise ValueError("Input should be 1 or more, or auto")
        return value

    @field_validator("workers")
    @classmethod
    def _not_negative(cls, value: Any) -> Any:
        if isinstance(value, int) and value < 0:
            raise ValueError("Input should be 0 or more, or auto")
        return value


class AugmentConfig(_Config):
    name: str = Field("light", description="a name of zoo.augment, or module:attribute")
    params: dict[str, Any] = Field(default_factory=dict)
    flips: Literal["auto", "on", "off"] = Field(
        "auto", description="mirroring left and right; auto: unless the classes' names or the data set speak against it"
    )
    mixup: float = Field(0.0, ge=0, description="alpha of MixUp, which mixes pairs of images; 0: off")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix, which pastes a part of another image; 0: off")
    mix_prob: float = Field(1.0, ge=0, le=1, description="share of the batches that are mixed")
    erase: float = Field(0.0, ge=0, le=1, description="share of the images that lose a rectangle")


class LossConfig(_Config):
    name: str = Field("auto", description="a name of zoo.losses, or module:attribute; auto: the task's own")
    params: dict[str, Any] = Field(default_factory=dict)
    class_weights: str = Field(
        "none", description="none | balanced | effective | a JSON or CSV file of name and weight"
    )


class ParamGroupConfig(_Config):
    """Other settings for the parameters whose full names match; of several groups that match, the last one counts."""

    match: tuple[str, ...] = Field(description="one glob or several over parameter names, such as layer4.*")
    lr: float | None = Field(None, gt=0, description="learning rate")
    lr_scale: float | None = Field(None, gt=0, description="factor on the learning rate, instead of lr")
    weight_decay: float | None = Field(None, ge=0)

    @field_validator("match", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _lr_or_lr_scale(self) -> ParamGroupConfig:
        if self.lr is not None and self.lr_scale is not None:
            raise ValueError("give lr or lr_scale, not both")
        return self


class OptimizerConfig(_Config):
    name: str = Field("adamw", description="a name of zoo.optim, or module:attribute")
    lr: float = Field(
        3e-4, gt=0, description="learning rate of the last stage (and of the head unless head_lr is given)"
    )
    head_lr: float | None = Field(None, gt=0, description="learning rate of the head")
    lr_base_size: int | None = Field(
        None, ge=1, description="images an update that the rates are for: with data.batch_size auto they are scaled"
    )
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="factor on the rate for each group further from the head"
    )
    weight_decay: float = Field(0.05, ge=0, description="not applied to biases and normalisation")
    groups: tuple[ParamGroupConfig, ...] = Field(
        (), description="other rates and decays, by globs over parameter names"
    )
    params: dict[str, Any] = Field(default_factory=dict)


class ScheduleConfig(_Config):
    name: str = Field("cosine", description="a name of zoo.optim.schedules, or module:attribute")
    warmup_epochs: float = Field(0.0, ge=0, description="epochs of linear rise from 0 before the schedule")
    monitor: str | None = Field(None, description="the metric that ReduceLROnPlateau watches; train.monitor if absent")
    params: dict[str, Any] = Field(default_factory=dict)


class TrainConfig(_Config):
    epochs: int = Field(10, ge=1)
    amp: bool = Field(True, description="mixed precision where the hardware gains by it")
    amp_dtype: Literal["auto", "bf16", "fp16", "fp32"] = Field("auto", description="auto measures on the first batch")
    grad_accum_steps: int = Field(1, ge=1, description="batches per optimizer step")
    clip_grad: float | None = Field(None, gt=0, description="largest norm of the gradient")
    model_ema: bool = Field(False, description="validate and keep a moving average of the weights")
    model_ema_decay: float = Field(0.999, gt=0, lt=1, description="of the average, a step; less in the first steps")
    monitor: str = Field("auto", description="the validation metric that chooses the best weights; auto: the task's")
    patience: int | None = Field(None, ge=1, description="stop after so many epochs without a better one")
    feature_cache: Literal["auto", "on", "off"] = Field(
        "auto", description="of a frozen first part: computed once and kept, or in each epoch; auto: kept where it pays"
    )
    views: int | None = Field(None, ge=1, description="random views of each training image that are kept, in turn")
    linear_probe: Literal["auto", "on", "off"] = Field(
        "off", description="of a linear head on kept features: solved directly instead; auto: where it can be"
    )
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = Field("auto", description="auto | cpu | cuda | cuda:N | mps")

    @field_validator("feature_cache", "linear_probe", mode="before")
    @classmethod
    def _bool_to_on_off(cls, value: Any) -> Any:
        return on_or_off(value)


class ExecutionConfig(_Config):
    """How the work is done, which changes what is learned in the last bits only."""

    memory_format: Literal["auto", "contiguous", "channels_last"] = Field(
        "auto", description="order of an image's numbers in memory; auto measures, for models of convolutions"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile for the training steps; auto: in long runs, if measured to repay its time"
    )
    threads: int | Literal["auto"] = Field(
        "auto", description="of torch in this process; auto: as it is, or fewer where loader processes need the cores"
    )
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="of several processes each holds the whole model (ddp), or a part of every tensor (fsdp)"
    )
    sync_batch_norm: bool = Field(
        False, description="batch-norm statistics over the batches of all processes; GPUs only"
    )

    @field_validator("compile", mode="before")
    @classmethod
    def _bool_to_on_off(cls, value: Any) -> Any:
        return on_or_off(value)

    @field_validator("threads")
    @classmethod
    def _check_threads(cls, value: Any) -> Any:
        if value != "auto" and value < 1:
            raise ValueError("give 1 or more, or auto")
        return value


class LoraConfig(_Config):
    rank: int = Field(8, ge=1, description="rank of each update")
    alpha: float | None = Field(None, gt=0, description="the update is scaled by alpha / rank; absent: by 1")
    layers: Literal["attention", "all"] = Field("attention", description="which matrices: of the attention, or all")


class TransferConfig(_Config):
    """How the pretrained weights are led over to the new task; docs/transfer.md has the evidence for each."""

    start: Literal["auto", "plain", "lp-ft"] = Field(
        "auto", description="lp-ft: first the head on frozen features, then the plan; auto: lp-ft if a backbone learns"
    )
    probe_epochs: int = Field(20, ge=1, description="passes over the frozen features in the first phase of lp-ft")
    probe_lr: float = Field(3e-3, gt=0, description="learning rate of that phase")
    unfreeze_every: int | None = Field(None, ge=1, description="epochs until one more group, from the head, learns")
    l2_sp: float | None = Field(None, gt=0, description="strength of the pull towards the starting weights")
    l2_sp_head: float = Field(0.0, ge=0, description="with l2_sp: strength of the pull of the head towards 0")
    bn_reestimate: bool = Field(False, description="batch-norm statistics from the training images before the start")
    auto_rgn: bool = Field(False, description="rates of each tensor in proportion to its relative gradient norm")
    lora: LoraConfig | None = Field(None, description="low-rank adapters in place of the backbone's matrices")
    wise_ft: bool = Field(False, description="at the end, mix start and end if the mixture validates better")


class Recipe(_Config):
    """Every choice of one fine-tuning run, frozen."""

    description: str = Field("", description="one line for `zoo recipes`")
    task: Literal["auto", "single-label", "multi-label", "regression"] = Field(
        "auto", description="what is learned; auto: told from the data"
    )
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    freeze: str = Field("none", description="freezing plan: none | backbone | N | GROUP | globs")
    transfer: TransferConfig = TransferConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    execution: ExecutionConfig = ExecutionConfig()

    @field_validator("freeze", mode="before")
    @classmethod
    def _plan_to_text(cls, value: Any) -> Any:
        if value is None:
            return "none"
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
