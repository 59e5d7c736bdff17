"""MixUp, CutMix and random erasing, compared with torchvision where it has the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from zoo.augment.mixing import Mixing, cutmix, mixing_problems, mixup, random_box
from zoo.errors import UsageError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randint(0, 256, (6, 3, 20, 30), generator=generator(), dtype=torch.uint8)
    return images.contiguous(memory_format=torch.channels_last), torch.tensor([0, 1, 2, 3, 0, 1])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixup_is_torchvisions_at_the_same_share(batch, share):
    images, targets = batch[0].float(), batch[1]
    theirs = v2.MixUp(alpha=1.0, num_classes=4)
    theirs.make_params = lambda inputs: {"lam": share}
    soft = torch.nn.functional.one_hot(targets, 4).float()
    mine = mixup(images, soft, share)
    for a, b in zip(mine, theirs(images, targets), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    rounded = mixup(batch[0], soft, share)[0]
    assert rounded.dtype == torch.uint8
    assert (rounded.float() - mine[0]).abs().max() <= 0.5 + 1e-4


def test_cutmix_is_torchvisions_in_the_same_box(batch):
    images, targets = batch
    theirs = v2.CutMix(alpha=1.0, num_classes=4)
    for seed in range(20):
        torch.manual_seed(seed)
        params = theirs.make_params([images])
        torch.manual_seed(seed)
        expected = theirs(images, targets)
        found = cutmix(images, torch.nn.functional.one_hot(targets, 4).float(), params["box"])
        assert torch.equal(found[0], expected[0])
        assert torch.allclose(found[1], expected[1])


def test_boxes_cover_the_share_that_was_drawn():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(200, 300, 0.75, rng) for _ in range(4000)])
    assert boxes.min() >= 0
    assert boxes[:, 2].max() == 300
    assert boxes[:, 3].max() == 200
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 60000
    assert area.max() == pytest.approx(0.25, abs=0.001)
    # A side of one half loses (1/4)^2 / 2 at each end on average.
    assert area.mean() == pytest.approx((0.5 - 2 / 32) ** 2, abs=0.006)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_is_mixed_from_the_generator_alone(batch, dtype):
    images, targets = batch[0].to(dtype), batch[1]
    mixing = Mixing(mixup=0.4, cutmix=1.0, erase=0.5, classes=4)
    before, state = images.clone(), torch.get_rng_state()
    first = [mixing(images, targets, generator(s)) for s in range(12)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)
    torch.manual_seed(3)
    for s, (mixed, soft) in enumerate(first):
        again = mixing(images, targets, generator(s))
        assert torch.equal(mixed, again[0])
        assert torch.equal(soft, again[1])
        assert mixed.dtype == dtype
        assert mixed.shape == images.shape
        assert soft.dtype == torch.float32
        assert torch.allclose(soft.sum(1), torch.ones(6))
    assert len({mixed.numpy().tobytes() for mixed, _ in first}) == 12


def test_prob_is_the_share_of_batches_that_are_mixed(batch):
    images, targets = batch
    plain = torch.nn.functional.one_hot(targets, 4).float()
    mixing = Mixing(cutmix=1.0, mixup=1.0, prob=0.3, classes=4)
    drawn = generator()
    mixed = 0
    for _ in range(300):
        out, soft = mixing(images, targets, drawn)
        same = torch.equal(out, images)
        if same:
            assert torch.equal(soft, plain)
        mixed += not same
    assert 60 < mixed < 120


def test_one_image_is_not_mixed_but_its_target_has_the_form_of_the_others(batch):
    out, soft = Mixing(mixup=1.0, classes=4)(batch[0][:1], batch[1][:1], generator())
    assert torch.equal(out, batch[0][:1])
    assert soft.tolist() == [[1, 0, 0, 0]]


def test_multi_label_and_regression_targets_are_mixed(batch):
    images = batch[0]
    labels = torch.tensor([[1.0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]])
    out, soft = Mixing(cutmix=1.0, classes=3, task="multi-label")(images, labels, generator(1))
    share = float((out == images).all(1).float().mean(dim=(1, 2)).mean())
    assert torch.allclose(soft, share * labels + (1 - share) * labels.roll(1, 0), atol=0.01)
    numbers = torch.tensor([[10.0], [20], [30], [40], [50], [60]])
    _, mixed = Mixing(mixup=1.0, classes=1, task="regression")(images, numbers, generator(1))
    assert float(mixed.mean()) == pytest.approx(35)
    assert not torch.equal(mixed, numbers)
    with pytest.raises(UsageError, match=r"augment.cutmix does not support regression"):
        Mixing(cutmix=1.0, classes=1, task="regression")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_erasing_takes_one_rectangle_of_the_papers_sizes(dtype):
    images = torch.full((400, 3, 50, 60), 7).to(dtype)
    images[0, 0, 0, 0], images[0, 0, 0, 1] = 0, 200
    targets = torch.zeros(400, dtype=torch.int64)
    out, same = Mixing(erase=0.5, classes=2)(images, targets, generator())
    assert torch.equal(same, targets)  # nothing is mixed: still classes
    assert out.dtype == dtype
    changed = (out != images).any(1)
    touched = changed.flatten(1).any(1)
    assert 160 < int(touched.sum()) < 240
    for hole in changed[touched][:50]:
        rows, columns = hole.any(1).nonzero(), hole.any(0).nonzero()
        box = hole[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert box.float().mean() > 0.9  # full, but for levels that were drawn as they had been
        assert 0.015 < box.numel() / 3000 < 0.41
    levels = out[touched][changed[touched][:, None].expand(-1, 3, -1, -1)].float()
    assert levels.max() > 190
    assert levels.mean() == pytest.approx(127 if dtype == torch.uint8 else 100, abs=8)


def test_numbers_out_of_range_are_all_named():
    found = mixing_problems(-1, float("nan"), 2, -0.1, "single-label")
    assert [line.split()[0] for line in found] == [
        "augment.mixup", "augment.cutmix", "augment.mix_prob", "augment.erase",
    ]  # fmt: skip
    assert mixing_problems(0.2, 1, 1, 0.25, "multi-label") == []
    assert not Mixing().is_on
    assert Mixing(erase=0.1).is_on
    assert not Mixing(erase=0.1).mixes
