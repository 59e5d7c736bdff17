"""The `transfer` section of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zoo.config import Config, YamlSwitch


class LoraConfig(Config):
    """Low-rank adapters (LoRA) in the backbone."""

    rank: int = Field(8, ge=1, description="rank of the adapters")
    alpha: float | None = Field(None, gt=0, description="adapters are scaled by alpha / rank; default: no scaling")
    layers: Literal["attention", "all"] = Field(
        "attention", description="layers with adapters: the attention's, or all linear layers"
    )


class TransferConfig(Config):
    """How pretrained weights are adapted to the new task. docs/transfer.md has the evidence for each method."""

    start: Literal["auto", "plain", "lp-ft"] = Field(
        "auto",
        description="lp-ft: train the head on frozen features first, then fine-tune; auto: lp-ft if pretrained layers "
        "are trained",
    )
    probe_epochs: int = Field(
        20, ge=1, description="epochs of the linear-probing phase of lp-ft, for heads that are not linear"
    )
    probe_lr: float = Field(3e-3, gt=0, description="learning rate of the linear-probing phase")
    unfreeze_every: int | None = Field(
        None, ge=1, description="epochs after which one more layer group is unfrozen, from the head down"
    )
    l2_sp: float | None = Field(None, gt=0, description="strength of the L2 penalty towards the pretrained weights")
    l2_sp_head: float = Field(0.0, ge=0, description="with l2_sp: strength of the L2 penalty on the head")
    bn_reestimate: bool = Field(
        False, description="re-estimate batch-norm statistics on the training images before the first epoch"
    )
    fixed_bn_stats: bool = Field(
        False,
        description="normalize with the running statistics of batch norm in training, too, and do not update them",
    )
    auto_rgn: bool = Field(
        False, description="learning rate of each tensor in proportion to its relative gradient norm (Auto-RGN)"
    )
    lora: LoraConfig | None = Field(None, description="low-rank adapters in the backbone (LoRA)")
    wise_ft: bool = Field(
        False, description="average initial and final weights at the end if that validates better (WiSE-FT)"
    )
    compare_probe: Annotated[Literal["auto", "on", "off"], YamlSwitch] = Field(
        "off",
        description="use the fine-tuned weights only if their loss on the held-out images is lower than that of the "
        "linear probe by more than one standard error; auto: if the run starts with lp-ft",
    )
