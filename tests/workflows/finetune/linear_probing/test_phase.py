"""Fine-tuning begins where the linear probe ends, in every family of architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from zoo.models import build
from zoo.workflows.finetune.run import finetune

FAMILIES = [
    "test_byobnet", "test_convnext", "test_convnext2", "test_convnext3", "test_efficientnet", "test_efficientnet_gn",
    "test_efficientnet_ln", "test_mambaout", "test_nfnet", "test_resnet", "test_vit", "test_vit2", "test_vit3",
    "test_vit4", "mobilenetv3_small_050", "mnasnet_small", "tf_efficientnet_lite0", "regnetx_002", "ghostnet_050",
    "repvgg_a0", "densenet121", "hardcorenas_a", "semnasnet_050", "lcnet_050", "tinynet_e", "mixnet_s", "fbnetc_100",
    "torchvision/mobilenet_v3_small", "torchvision/shufflenet_v2_x0_5", "torchvision/mnasnet0_5",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_first_steps_have_the_loss_of_the_probe(small: Path, tmp_path: Path, name: str) -> None:
    """With a learning rate of almost zero, the loss of the first epoch is that of its first step."""
    torch.manual_seed(0)
    module = build(name, classes=10, weights="none").module
    with torch.no_grad():  # zero scales would hide most parameters of an untrained network
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(0.8, 1.2)
                part.running_var.uniform_(0.8, 1.2)
    weights = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, weights)
    settings = {"augment.name": "none", "transfer.fixed_bn_stats": True, "schedule.name": "constant"}
    options: dict[str, Any] = {"img_size": 32} if "vit" not in name else {}
    if name in ("torchvision/mobilenet_v3_small", "torchvision/mnasnet0_5"):
        options["drop"] = 0.0  # theirs is 0.2
    run = finetune(
        name, data=small, weights=weights, epochs=1, lr=1e-20, head_lr=1e-20, amp=False, progress=False,
        output_dir=tmp_path / "run", settings=settings, **options,
    )  # fmt: skip
    head = run.info()["start"]["head"]
    assert head["last_loss"] < head["first_loss"]
    assert run.metrics()[0]["train_loss"] <= 1.1 * head["last_loss"] + 1e-3
