"""Of the same file zoo and timm make the same model: every tensor outside the new head."""

from __future__ import annotations

import warnings

import pytest
import timm
import torch

from zoo.models import build

# The smallest of thirty families, among them those with filters, tables and several stems of their own.
NAMES = [
    "test_byobnet",
    "test_efficientnet",
    "test_vit",
    "test_convnext",
    "test_resnet",
    "test_mambaout",
    "test_nfnet",
    "mobilenetv3_small_050",
    "ghostnet_050",
    "lcnet_035",
    "mobilevit_xxs",
    "edgenext_xx_small",
    "tinynet_e",
    "efficientvit_b0",
    "efficientvit_m0",
    "starnet_s050",
    "repghostnet_050",
    "convit_tiny",
    "pit_ti_224",
    "xcit_nano_12_p8_224",
    "deit_tiny_distilled_patch16_224",
    "levit_128s",
    "coat_lite_tiny",
    "crossvit_9_240",
    "hgnetv2_b0",
    "poolformerv2_s12",
    "cait_xxs24_224",
    "tresnet_m",
    "swin_tiny_patch4_window7_224",
    "mixer_s32_224",
]
CHUNKS = 6


def test_thirty_are_compared():
    assert len(set(NAMES)) == 30


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_same_file_gives_timms_model(chunk, tmp_path):
    for name in NAMES[chunk::CHUNKS]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(timm.create_model(name).state_dict(), tmp_path / "w.pth")
            mine = build(name, classes=10, in_chans=1, weights=str(tmp_path / "w.pth"))
            overlay = {"file": str(tmp_path / "w.pth")}
            theirs = timm.create_model(
                name, pretrained=True, num_classes=10, in_chans=1, pretrained_cfg_overlay=overlay
            )
        expected = {**theirs.state_dict(), **dict(theirs.named_buffers())}
        found = {**mine.module.state_dict(), **dict(mine.module.named_buffers())}
        assert list(found) == list(expected), name
        head = tuple(f"{path}." for path in mine.head)
        different = [k for k, t in expected.items() if not k.startswith(head) and not torch.equal(found[k], t)]
        assert different == [], name
        assert mine.weights.missing == mine.weights.unexpected == (), name
        assert {k for k in expected if k.startswith(head)} > set(), name
