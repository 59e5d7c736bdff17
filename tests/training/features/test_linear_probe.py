"""The linear probe equals the minimum found by other solvers."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import TrainingError
from zoo.losses import make_loss
from zoo.models import build
from zoo.strategy.freeze import resolve_plan, set_train_mode
from zoo.training.feature_extractor import find_feature_extractor
from zoo.training.features import linear_probe
from zoo.training.features.linear_probe import fit_linear_probe, why_not_linear


def _clouds(rows: int, columns: int, classes: int, seed: int = 0, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Features of very different scales, one of them constant, and classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    x = rng.normal(size=(rows, columns)) + np.random.default_rng(9).normal(size=(classes, columns))[y] * 0.5
    x = x * 10 ** np.linspace(-3, 3, columns) + 5
    x[:, 0] = 3.0
    y = np.where(rng.random(rows) < noise, rng.integers(0, classes, rows), y)
    return torch.from_numpy(x).float(), torch.from_numpy(y)


@pytest.mark.parametrize(("rows", "columns"), [(300, 20), (40, 100)])
def test_same_minimum_as_scikit_learn(rows: int, columns: int) -> None:
    x, y = _clouds(rows, columns, 4)
    found = fit_linear_probe(x, y, F.cross_entropy, outputs=4, seed=0)
    scaler = StandardScaler().fit(x.double().numpy()[:, 1:])
    inverse = 1 / (found.penalty * rows)
    other = LogisticRegression(C=inverse, tol=1e-8, max_iter=10_000).fit(scaler.transform(x.double().numpy()[:, 1:]), y)
    chances = other.predict_proba(scaler.transform(x.double().numpy()[:, 1:]))
    assert np.allclose(F.linear(x, found.weight, found.bias).softmax(1).numpy(), chances, atol=2e-3)
    assert np.allclose(found.outputs.softmax(1).numpy(), chances, atol=2e-3)
    assert found.loss == pytest.approx(float(F.cross_entropy(found.outputs, y)), rel=1e-3)
    assert not found.weight[:, 0].any()  # of the constant column


@pytest.mark.parametrize("signal", ["small", "all"])
def test_shares_of_groups_are_those_of_a_brute_force_search(signal: str) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    groups = [slice(0, 4), slice(4, 204), slice(204, 210)]
    x = rng.normal(size=(90, 210)) * 10 ** rng.uniform(-2, 2, 210) + 1
    informative = slice(0, 4) if signal == "small" else slice(0, 210)
    centers = rng.normal(size=(3, 210))[y][:, informative]
    x[:, informative] += centers * x.std(0)[informative] * (0.12 if signal == "all" else 1.3)
    found = fit_linear_probe(
        torch.from_numpy(x).float(), torch.from_numpy(y), F.cross_entropy, outputs=3, seed=0, columns=groups
    )
    scaled = StandardScaler().fit_transform(x)
    folds = linear_probe._make_folds(y, 0, rounds=5)

    def fit(weighted: np.ndarray, rows: np.ndarray, penalty: float) -> LogisticRegression:
        return LogisticRegression(C=1 / (penalty * len(rows)), tol=1e-7, max_iter=10_000).fit(weighted[rows], y[rows])

    losses, predictions = {}, {}
    for exponent in (0.25, 0.5):
        share = np.concatenate([np.full(g.stop - g.start, (g.stop - g.start) ** -exponent) for g in groups])
        weighted = scaled * share / np.sqrt((share**2).mean())
        for penalty in 10.0 ** np.arange(-3, 2.5, 0.5):
            fits = [(fit(weighted, rows, penalty), out) for rows, out in folds]
            chances = [-np.log(f.predict_proba(weighted[out])[np.arange(len(out)), y[out]]).sum() for f, out in fits]
            losses[exponent, penalty] = sum(chances) / 90
        predictions[exponent] = fit(weighted, np.arange(90), found.penalty).predict_proba(weighted)
    best = min(losses, key=losses.__getitem__)
    assert found.held_out_loss == pytest.approx(losses[best], rel=0.05)
    own = F.linear(torch.from_numpy(x).float(), found.weight, found.bias).softmax(1).numpy()
    distance = {e: float(np.abs(own - p).max()) for e, p in predictions.items()}
    assert min(distance, key=distance.__getitem__) == best[0]
    assert distance[best[0]] < 5e-3


def test_both_parametrizations_give_the_same_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _clouds(200, 30, 3)
    one = fit_linear_probe(x, y, F.cross_entropy, outputs=3, seed=0)
    monkeypatch.setattr(linear_probe, "_MAX_EIGH_DIM", 0)
    monkeypatch.setattr(linear_probe, "_MAX_FLOAT64_VALUES", 0)
    other = fit_linear_probe(x, y, F.cross_entropy, outputs=3, seed=0)
    assert other.penalty == pytest.approx(one.penalty)
    assert torch.allclose(other.outputs, one.outputs, atol=0.02)


def test_views_are_used_if_the_held_out_loss_is_lower() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    # One weak feature of the class, and 30 random ones that differ between the views of an image.
    class_of = rng.normal(size=(60, 1)) * 0.3 + y[:, None]
    own = [rng.normal(size=(60, 30)) * 3 for _ in range(9)]
    plain, *views = (torch.from_numpy(np.concatenate([class_of, some], 1)).float() for some in own)
    targets = torch.from_numpy(y)
    alone = fit_linear_probe(plain, targets, F.cross_entropy, outputs=2, seed=0)
    found = fit_linear_probe(plain, targets, F.cross_entropy, outputs=2, seed=0, views=views)
    assert alone.views == 1
    assert found.views == 9
    assert found.held_out_loss < 0.8 * alone.held_out_loss
    assert found.outputs.shape == (60, 2)  # of the images without augmentation
    fresh = np.concatenate(
        [rng.normal(size=(500, 1)) * 0.3 + (np.arange(500) % 2)[:, None], rng.normal(size=(500, 30)) * 3], 1
    )
    right = [
        float(
            (F.linear(torch.from_numpy(fresh).float(), f.weight, f.bias).argmax(1).numpy() == np.arange(500) % 2).mean()
        )
        for f in (alone, found)
    ]
    assert right[1] > right[0] + 0.03
    # Views that look like images of another class are not used.
    wrong = [view * torch.tensor([-1.0] + [1.0] * 30) + torch.tensor([1.0] + [0.0] * 30) for view in views]
    without_views = fit_linear_probe(plain, targets, F.cross_entropy, outputs=2, seed=0, views=wrong)
    assert without_views.views == 1
    assert torch.equal(without_views.weight, alone.weight)


def test_views_are_fitted_with_shares_of_columns_too() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    centers = rng.normal(size=(3, 104))
    views = [torch.from_numpy(centers[y] + rng.normal(size=(60, 104))).float() for _ in range(5)]
    columns, targets = [slice(0, 4), slice(4, 104)], torch.from_numpy(y)
    fit = partial(fit_linear_probe, views[0], targets, F.cross_entropy, outputs=3, seed=0, columns=columns)
    alone, found = fit(), fit(views=views[1:])
    assert found.views == 5
    assert found.held_out_loss < alone.held_out_loss


def test_all_views_of_an_image_are_held_out_together() -> None:
    x, y = _clouds(80, 40, 2, noise=0.4)
    alone = fit_linear_probe(x, y, F.cross_entropy, outputs=2, seed=0)
    # Three equal views add no information. If they were in different folds, the held-out loss would be lower.
    again = fit_linear_probe(x, y, F.cross_entropy, outputs=2, seed=0, views=[x, x])
    assert again.held_out_loss == pytest.approx(alone.held_out_loss, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "params", "weights"),
    [
        ("cross_entropy", {"label_smoothing": 0.1}, None),
        ("cross_entropy", {}, torch.tensor([1.0, 5.0, 0.5])),
        ("bce_with_logits", {}, torch.tensor([1.0, 4.0, 0.5])),
        ("huber", {}, None),
    ],
)
def test_the_gradient_of_the_loss_is_zero_at_the_solution(
    name: str, params: dict[str, float], weights: Tensor | None
) -> None:
    x, y = _clouds(300, 10, 3)
    x = (x - x.mean(0)) / x.std(0, correction=0).clamp_min(1e-6)
    targets = y if name == "cross_entropy" else F.one_hot(y, 3).float()
    loss = make_loss(name, params, class_weights=weights)
    found = fit_linear_probe(x, targets, loss, outputs=3, seed=0)
    weight, bias = found.weight.double().requires_grad_(), found.bias.double().requires_grad_()
    value = loss(F.linear(x.double(), weight, bias), targets) + found.penalty / 2 * weight.square().sum()
    for slope in torch.autograd.grad(value, (weight, bias)):
        assert float(slope.abs().max()) < 1e-3
    nothing = float(loss(torch.zeros(300, 3), targets))
    assert found.loss < nothing
    assert found.held_out_loss < nothing


def test_random_labels_get_a_strong_penalty_and_a_loss_at_chance_level() -> None:
    x, y = _clouds(200, 50, 4, noise=0.0)
    clear = fit_linear_probe(x, y, F.cross_entropy, outputs=4, seed=0)
    noisy = fit_linear_probe(
        x, torch.from_numpy(np.random.default_rng(0).permutation(y.numpy())), F.cross_entropy, outputs=4, seed=0
    )
    assert noisy.penalty > 10 * clear.penalty
    assert noisy.held_out_loss == pytest.approx(math.log(4), abs=0.05)


def test_classes_with_one_image_or_none() -> None:
    x, y = _clouds(60, 10, 3)
    y[0] = 3  # the only one of its class
    found = fit_linear_probe(x, y, F.cross_entropy, outputs=6, seed=0)
    assert torch.isfinite(found.weight).all()
    assert torch.isfinite(found.bias).all()
    assert float(found.outputs.softmax(1)[:, 4:].max()) < 0.05
    for fitted, left in linear_probe._make_folds(y.numpy(), 0, rounds=5):
        assert 0 in fitted
        assert not set(fitted) & set(left)
        assert np.bincount(y.numpy()[left], minlength=4)[:3].min() >= 2  # of each class its share


def test_features_that_are_not_finite_are_an_error() -> None:
    x, y = _clouds(60, 10, 3)
    x[5, 3] = math.inf
    with pytest.raises(TrainingError, match="1 of 60"):
        fit_linear_probe(x, y, F.cross_entropy, outputs=3, seed=0)


@pytest.mark.parametrize(
    ("name", "options", "plan", "reason"),
    [
        ("test_resnet", {}, "backbone", ""),
        ("test_vit", {}, "backbone", ""),
        ("test_resnet", {"drop": 0.5}, "backbone", "dropout"),
        ("test_resnet", {}, "3", "both trained"),
        ("test_convnext", {}, "backbone,!head*", "both trained"),
        ("test_byobnet", {}, "backbone", ""),
    ],
)
def test_reasons_why_a_head_is_not_linear(name: str, options: dict[str, float], plan: str, reason: str) -> None:
    torch.manual_seed(0)
    model = build(name, classes=5, weights="none", img_size=32 if name == "test_vit" else None, **options)
    chosen = resolve_plan(plan, model.groups, model.module)
    chosen.apply(model.module)
    set_train_mode(model.module, chosen)
    size = model.preprocess.height
    feature_extractor = find_feature_extractor(model.module, chosen.frozen_modules, torch.randn(3, 3, size, size))
    assert feature_extractor is not None
    said = why_not_linear(feature_extractor)
    assert reason in said if reason else not said
    if not reason:
        assert isinstance(model.module.get_submodule(feature_extractor.end), nn.Linear)
