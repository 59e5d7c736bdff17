"""Images of another size: positions that are resampled, and weights that cannot be adapted."""

from __future__ import annotations

import warnings

import pytest
import torch

from zoo.errors import ModelError
from zoo.models import build
from zoo.models.pos_embed import resample_pos_embed


def ramp(side):
    """A picture (side, side) that rises from 0 to 1 along each axis, whatever its size."""
    along = (torch.arange(side) + 0.5) / side
    return along[:, None] + 10 * along[None, :]


LAYOUTS = {
    "(1, tokens, D)": ("pos_embed", lambda p: p.reshape(1, -1, 1)),
    "with a class token": ("pos_embed_0", lambda p: torch.cat([torch.full((1, 1, 1), 99.0), p.reshape(1, -1, 1)], 1)),
    "with two tokens": ("pos_embed", lambda p: torch.cat([torch.full((1, 2, 1), 99.0), p.reshape(1, -1, 1)], 1)),
    "(1, D, H, W)": ("pos_embed1", lambda p: p[None, None].repeat(1, 5, 1, 1)),
    "(1, H, W, D)": ("pos_embed", lambda p: p[None, :, :, None].repeat(1, 1, 1, 5)),
    "(1, blocks, tokens, D)": ("levels.0.pos_embed", lambda p: p.reshape(1, 1, -1, 1).repeat(1, 4, 1, 3)),
    "(heads, offsets)": ("attn.attention_biases", lambda p: p.reshape(1, -1).repeat(4, 1)),
    "(offsets, heads)": ("attn.relative_position_bias_table", lambda p: p.reshape(-1, 1).repeat(1, 4)),
    "one axis": ("attn.rel_pos_h", lambda p: p.mean(1, keepdim=True).repeat(1, 6)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sides", [(14, 21), (15, 9)])
def test_position_embeddings_are_resampled(layout, sides):
    name, lay = LAYOUTS[layout]
    before, after = (lay(ramp(side)) for side in sides)
    found = resample_pos_embed(f"blocks.0.{name}", before, after)
    assert found is not None
    assert found.shape == after.shape
    assert (found - after).abs().max() < 0.25  # the ends of the ramp bend; its range is 11
    assert (found - after).abs().mean() < 0.06


def test_class_and_distillation_tokens_are_not_resampled():
    name, lay = LAYOUTS["with two tokens"]
    found = resample_pos_embed(name, lay(ramp(4)), lay(ramp(8)))
    assert found[0, :2].eq(99).all()


def test_half_precision_stays_half():
    assert resample_pos_embed("pos_embed", torch.randn(1, 16, 8).half(), torch.empty(1, 64, 8)).dtype == torch.float16


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("conv.weight", (8, 3, 3, 3), (8, 3, 5, 5)),
        ("pos_embed", (1, 16, 8), (1, 64, 9)),
        ("pos_embed", (1, 15, 8), (1, 60, 8)),
        ("pos_embed", (16, 8), (64, 8)),
        ("attn.attention_biases", (4, 16), (8, 64)),
        ("pos_embed", (1, 16, 8), (1, 8, 8, 8)),
    ],
)
def test_other_tensors_are_not_resampled(name, before, after):
    assert resample_pos_embed(name, torch.empty(before), torch.empty(after)) is None


@pytest.mark.parametrize(
    ("name", "side", "tables"),
    [
        ("test_vit", 96, 1),
        ("pit_ti_224", 96, 1),
        ("levit_128s", 128, 11),
        ("crossvit_9_240", 120, 2),
        ("gcvit_xxtiny", 128, 12),
        ("convit_tiny", 96, 1),
        ("visformer_tiny", 128, 3),
        ("torchvision/vit_b_32", 96, 1),
        ("resnet18", 96, 0),
        ("swin_tiny_patch4_window7_224", 448, 0),
    ],
)
def test_weights_fit_images_of_another_size(name, side, tables, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(build(name, classes=2, weights="none").module.state_dict(), tmp_path / "w.pth")
        model = build(name, classes=2, img_size=side, weights=str(tmp_path / "w.pth"))
    assert len([line for line in model.weights.adapted if ": resampled," in line]) == tables
    assert model.weights.missing == ()
    assert model.preprocess.input_size == (3, side, side)


def test_weights_that_mix_positions_cannot_be_resampled(tmp_path):
    torch.save(build("gmlp_ti16_224", classes=2, weights="none").module.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"cannot be adapted to images of 112 pixels.*\(196, 196\) -> \(49, 49\)") as e:
        build("gmlp_ti16_224", classes=2, img_size=112, weights=str(tmp_path / "w.pth"))
    assert "--img-size" in e.value.hint
    assert build("gmlp_ti16_224", classes=2, img_size=112, weights="none").preprocess.height == 112


@pytest.mark.parametrize("name", ["halonet_h1", "efficientformer_l1", "torchvision/maxvit_t"])
def test_architectures_of_a_fixed_image_size_raise(name):
    with pytest.raises(ModelError, match="120"):
        build(name, classes=2, img_size=120, weights="none")
