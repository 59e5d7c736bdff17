"""Our losses: closed forms, published implementations, derivatives, empty masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.loss import AsymmetricLossMultiLabel, BinaryCrossEntropy, LabelSmoothingCrossEntropy
from timm.loss import SoftTargetCrossEntropy as TimmSoftTarget
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from zoo.losses import LOSSES, make_loss

OWN = [name for name, entry in LOSSES.items() if not entry.path.startswith("zoo.losses.torch_losses")]
Draw = Callable[..., tuple[Tensor, Tensor]]

# Two images of 2x4 pixels, three classes or labels.
X = (torch.arange(48, dtype=torch.float64).reshape(2, 3, 2, 4) * 7 % 13 - 6) / 3
Y = (torch.arange(16).reshape(2, 2, 4) * 5 % 7) % 3
T = ((torch.arange(48).reshape(2, 3, 2, 4) * 11) % 5 < 2).double()
HOLES = Y.clone()
HOLES[0, 0, :3] = 255


@pytest.mark.parametrize(
    ("name", "params", "target", "published"),
    [
        # segmentation_models_pytorch 0.6.0: DiceLoss("multiclass", smooth=0.5)(X, Y) …; its smooth counts double.
        ("dice", {}, Y, 0.6990224325),
        ("dice", {}, T, 0.5230814541),
        ("dice", {"weight": [1, 2, 3]}, Y, 0.7046381110),
        ("dice", {"ignore_index": 255}, HOLES, 0.6478844748),
        ("dice", {"smooth": 0}, Y, 0.7649721572),
        ("jaccard", {}, Y, 0.7828876909),
        ("jaccard", {"weight": [1, 2, 3]}, T, 0.6509140670),
        ("tversky", {}, Y, 0.6413528341),  # alpha=0.3, beta=0.7, smooth=1
        ("tversky", {}, T, 0.4747913240),
        ("focal", {"gamma": 1.5, "alpha": 0.25}, T, 0.2739310361),
        # monai 1.6.1: FocalLoss(use_softmax=True, gamma=1.5), the mean over classes too, times 3.
        ("focal", {"gamma": 1.5}, Y, 1.734304190),
    ],
)
def test_equal_to_a_published_implementation(
    name: str, params: dict[str, Any], target: Tensor, published: float
) -> None:
    assert float(make_loss(name, params)(X, target)) == pytest.approx(published, abs=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_timm_and_torchvision(sample: Draw, seed: int) -> None:
    x, t = sample("multi-label", (8, 5), seed)
    _, y = sample("single-label", (8, 5), seed)
    close = torch.testing.assert_close
    for options in ({}, {"gamma_neg": 2.0, "gamma_pos": 0.5, "clip": 0.0}):
        close(make_loss("asymmetric", options)(x, t), AsymmetricLossMultiLabel(**options, reduction="mean")(x, t))
    factors = torch.rand(5) + 0.5
    theirs = AsymmetricLossMultiLabel(pos_weight=factors, reduction="mean")
    close(make_loss("asymmetric", {}, class_weights=factors)(x, t), theirs(x, t))
    q = (x * 2).roll(1, 0).softmax(1)
    close(make_loss("soft_target_cross_entropy", {})(x, q), TimmSoftTarget()(x, q))
    close(make_loss("cross_entropy", {"label_smoothing": 0.2})(x, y), LabelSmoothingCrossEntropy(0.2)(x, y))
    close(make_loss("bce_with_logits", {})(x, y), BinaryCrossEntropy(smoothing=0.0)(x, y))
    for gamma, alpha in ((2.0, 0.25), (0.5, 0.75)):
        ours = make_loss("focal", {"gamma": gamma, "alpha": alpha})(x, t)
        close(ours, sigmoid_focal_loss(x, t, alpha=alpha, gamma=gamma, reduction="mean"))
    close(make_loss("focal", {"gamma": 3.0})(x, t), sigmoid_focal_loss(x, t, alpha=-1, gamma=3.0, reduction="mean"))


def test_dice_jaccard_and_tversky_by_hand() -> None:
    """σ(0) = 1/2 over four pixels of which two are there: TP = 1, FP = 1, FN = 1."""
    x, t = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert make_loss("dice", {})(x, t) == pytest.approx(1 - 3 / 5)
    assert make_loss("jaccard", {})(x, t) == pytest.approx(1 - 2 / 4)
    assert make_loss("iou", {"smooth": 0})(x, t) == pytest.approx(1 - 1 / 3)
    assert make_loss("tversky", {"alpha": 2.0, "beta": 3.0, "smooth": 0.0})(x, t) == pytest.approx(1 - 1 / 6)
    assert make_loss("bce_dice", {"dice_share": 0.25})(x, t) == pytest.approx(0.75 * math.log(2) + 0.25 * 0.4)


def test_focal_by_hand() -> None:
    x, y = torch.tensor([[0.0, math.log(3)]]), torch.tensor([0])  # p = 1/4, 3/4
    assert make_loss("focal", {"gamma": 2})(x, y) == pytest.approx(0.75**2 * math.log(4))
    one = torch.tensor([[math.log(3)]])  # σ = 3/4
    assert make_loss("focal", {"gamma": 2})(one, torch.ones(1, 1)) == pytest.approx(0.25**2 * math.log(4 / 3))
    labelled = make_loss("focal", {"gamma": 2, "alpha": 0.2})(one, torch.zeros(1, 1))
    assert labelled == pytest.approx(0.8 * 0.75**2 * math.log(4))


def test_asymmetric_by_hand() -> None:
    x = torch.tensor([[math.log(3), math.log(3), math.log(0.04 / 0.96)]])  # σ = 3/4, 3/4, 1/25
    expected = 0.25 * math.log(4 / 3) - 0.7**4 * math.log(0.3) + 0
    assert make_loss("asymmetric", {})(x, torch.tensor([[1.0, 0.0, 0.0]])) == pytest.approx(expected / 3)


def test_sobolev_by_hand() -> None:
    x, y = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[0.0, 0.0, 0.0]])
    assert make_loss("sobolev", {})(x, y) == pytest.approx(14 / 3 + (4 + 1) / 2)
    assert make_loss("sobolev", {"slope_weight": 2, "distance": "l1"})(x, y) == pytest.approx(6 / 3 + 2 * 3 / 2)
    maps = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])
    down, right = (9 + 36) / 2, (1 + 16) / 2
    assert make_loss("sobolev", {})(maps, torch.zeros_like(maps)) == pytest.approx(85 / 4 + down + right)
    channels = torch.cat([torch.zeros_like(maps), maps], 1)
    halved = make_loss("sobolev", {})(channels, torch.zeros_like(channels))
    assert halved == pytest.approx((85 / 4 + down + right) / 2), "channels are no neighbours"
    assert make_loss("sobolev", {})(x[:, :1], y[:, :1]) == 1, "one target has no slope"
    shifted = make_loss("sobolev", {})(maps + 1, maps)
    assert shifted == make_loss("mse", {})(maps + 1, maps), "an even error has no slope"


def test_soft_targets_and_class_numbers_agree(sample: Draw) -> None:
    x, y = sample("single-label", (6, 4, 3))
    one_hot = F.one_hot(y, 4).movedim(-1, 1).float()
    weights = [1.0, 2.0, 3.0, 4.0]
    loss = make_loss("soft_target_cross_entropy", {"weight": weights})
    torch.testing.assert_close(loss(x, y), F.cross_entropy(x, y, torch.tensor(weights)))
    torch.testing.assert_close(loss(x, one_hot), loss(x, y))


def test_focal_without_focus_is_cross_entropy(sample: Draw) -> None:
    x, y = sample("single-label", (6, 4))
    weights = [1.0, 2.0, 3.0, 4.0]
    focal, plain = make_loss("focal", {"gamma": 0, "weight": weights}), make_loss("cross_entropy", {"weight": weights})
    torch.testing.assert_close(focal(x, y), plain(x, y))
    x, t = sample("multi-label", (6, 4))
    focal, plain = (
        make_loss("focal", {"gamma": 0, "weight": weights}),
        make_loss("bce_with_logits", {"pos_weight": weights}),
    )
    torch.testing.assert_close(focal(x, t), plain(x, t))
    with pytest.raises(ValueError, match="use weight for classes"):
        make_loss("focal", {"alpha": 0.25})(x, torch.zeros(6, dtype=torch.long))


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 3), (2, 1, 2, 2)])
def test_gradients_are_the_derivatives(sample: Draw, name: str, shape: tuple[int, ...]) -> None:
    for task in LOSSES[name].tasks:
        if shape[1] == 1 and name == "soft_target_cross_entropy":
            continue  # one class has nothing to tell apart
        x, target = sample(task, shape, dtype=torch.float64)
        if shape[1] == 1 and task == "single-label":
            target = torch.arange(target.numel()).reshape(target.shape) % 2
        assert torch.autograd.gradcheck(lambda v, t=target: make_loss(name, {})(v, t), x.requires_grad_())


@pytest.mark.parametrize("params", [{"gamma": 0.5}, {"gamma": 0.0}, {"alpha": 0.3}])
def test_gradients_of_small_powers(sample: Draw, params: dict[str, float]) -> None:
    x, t = sample("multi-label", (3, 4), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: make_loss("focal", params)(v, t), x.requires_grad_())
    powers = {"gamma_neg": params.get("gamma", 0.3), "gamma_pos": 0.5}
    assert torch.autograd.gradcheck(lambda v: make_loss("asymmetric", powers)(v, t), x)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("focal", {"gamma": 0.5}),
        ("asymmetric", {"gamma_neg": 0.5, "gamma_pos": 0.5}),
        ("asymmetric", {"gamma_neg": 0.5, "clip": 0}),
        ("asymmetric", {"gamma_neg": 0.5, "clip": 0.5}),  # σ(0) - clip is 0
        ("tversky", {"smooth": 0}),
    ],
)
def test_extreme_outputs_have_finite_gradients_for_any_parameters(name: str, params: dict[str, float]) -> None:
    for target in (torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])):
        for level in (-1e4, -90.0, -17.0, 0.0, 17.0, 90.0, 1e4):
            x = torch.tensor([[level, -level], [level, level], [level, 0.0]], requires_grad=True)
            value = make_loss(name, params)(x, target)
            value.backward()
            assert value.isfinite()
            assert x.grad is not None
            assert x.grad.isfinite().all(), level


OVERLAP = ["dice", "jaccard", "tversky"]


@pytest.mark.parametrize("name", [*OVERLAP, "bce_dice"])
def test_empty_masks(name: str) -> None:
    """Nothing there: 0 if nothing is predicted, more the more is, and a gradient that removes it."""
    empty = torch.zeros(2, 1, 4, 4)
    values = []
    for level in (-40.0, -2.0, 2.0):
        x = torch.full_like(empty, level, requires_grad=True)
        value = make_loss(name, {})(x, empty)
        value.backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert (x.grad >= 0).all()
        values.append(value.item())
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[0] < values[1] < values[2]


@pytest.mark.parametrize("name", OVERLAP)
def test_empty_masks_without_smoothing_are_defined(name: str) -> None:
    x = torch.full((1, 1, 2, 2), -1e4, requires_grad=True)
    value = make_loss(name, {"smooth": 0})(x, torch.zeros(1, 1, 2, 2))
    value.backward()
    assert value == 0
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", OVERLAP)
def test_false_positives_of_an_absent_class_count(name: str) -> None:
    y = torch.zeros(1, 2, 2, dtype=torch.long)
    right = torch.tensor([20.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert make_loss(name, {})(right, y) == pytest.approx(0, abs=1e-6)
    absent = make_loss(name, {"weight": [0, 1, 1]})
    assert 0.1 < absent((right + right.roll(1, 1)) / 2, y) < absent(right.roll(1, 1), y)


@pytest.mark.parametrize("name", [n for n in OWN if n != "sobolev"])
def test_ignored_positions_do_not_count(sample: Draw, name: str) -> None:
    x, y = sample("single-label", (2, 3, 2, 4))
    loss = make_loss(name, {"ignore_index": 255})
    holes = y.clone()
    holes[1] = 255
    torch.testing.assert_close(loss(x, holes), loss(x[:1], y[:1]))
    x.requires_grad_()
    nothing = loss(x, torch.full_like(y, 255))
    nothing.backward()
    assert nothing == 0
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("name", [*OVERLAP, "bce_dice", "focal", "asymmetric", "bce_with_logits"])
def test_one_output_takes_a_mask_of_class_numbers_for_a_label(sample: Draw, name: str) -> None:
    x, t = sample("multi-label", (2, 1, 3, 3))
    assert make_loss(name, {})(x, t.squeeze(1).long()) == make_loss(name, {})(x, t)
