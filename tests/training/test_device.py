"""The sanity-check step, the device, and the accelerator's precision (its choice: test_precision.py)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import ModelError, UsageError
from zoo.preprocess import Preprocess
from zoo.training.device import make_accelerator, pick_device
from zoo.training.inference import Normalize
from zoo.training.sanity_check import check_step

CPU = torch.device("cpu")
NORMALIZE = Normalize(Preprocess((3, 8, 8), (0.5,) * 3, (0.5,) * 3))


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3))


def test_error_if_the_model_cannot_take_the_images() -> None:
    targets = torch.zeros(8, dtype=torch.int64)
    images = torch.zeros(8, 3, 9, 9, dtype=torch.uint8)
    with pytest.raises(ModelError, match="cannot take 3x9x9 images"):
        check_step(_net(), NORMALIZE, nn.functional.cross_entropy, images, targets, callback=lambda step: None)


def test_the_step_takes_more_images_than_there_are_targets() -> None:
    targets = torch.tensor([0, 1, 2])
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    net = _net().eval()

    def compare(step: object) -> tuple[Tensor, Tensor]:
        return step(images), step(images.repeat(4, 1, 1, 1))  # type: ignore[operator]

    once, fourfold = check_step(net, NORMALIZE, nn.functional.cross_entropy, images, targets, callback=compare)
    torch.testing.assert_close(fourfold, once)


@pytest.mark.parametrize("name", ["tpu", "gpu", "cuda:99", "xpu:0"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(UsageError, match="device"):
        pick_device(name)


def test_one_process_may_use_two_precisions_in_turn() -> None:
    assert make_accelerator(CPU, torch.bfloat16).mixed_precision == "bf16"
    assert make_accelerator(CPU, None).mixed_precision == "no"
