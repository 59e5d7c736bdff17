"""A training step of one model of every family: trainable parameters change, frozen ones stay bit-identical."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn.functional import cross_entropy

from zoo.models import build
from zoo.strategy.freeze import resolve_plan, set_train_mode
from zoo.training.forward_pass import total_loss

CHUNKS, RATE = 8, 0.1


def test_eighty_families_are_trained(small_models):
    assert len(small_models) >= 80


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_step_changes_trainable_parameters_only(chunk, small_models, side_of):
    failures = {}
    for name in small_models[chunk::CHUNKS]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            model = build(name, classes=3, img_size=side_of(name), weights="none")
        for plan in ("backbone", "none"):
            if message := step(model, plan):
                failures[name, plan] = message
    assert failures == {}


def step(model, text):
    """What is wrong with one step under the plan `text`; nothing if all is well."""
    plan = resolve_plan(text, model.groups, model.module)
    plan.apply(model.module)
    set_train_mode(model.module, plan)
    before = {n: t.detach().clone() for n, t in tensors(model.module)}
    trainable = [p for p in model.module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=RATE)
    images, target = torch.randn(2, *model.preprocess.input_size), torch.tensor([0, 2])
    logits, loss = total_loss(model.module(images), target, cross_entropy, model.auxiliary or 0.0)
    if logits.shape != (2, 3) or not torch.isfinite(loss):
        return f"logits {tuple(logits.shape)}, loss {float(loss)}"
    loss.backward()
    with_gradient = {n for n, p in model.module.named_parameters() if p.grad is not None}
    expected = {n for n, _ in model.module.named_parameters() if n not in plan.frozen}
    if with_gradient != expected:
        return f"gradients: {sorted(with_gradient ^ expected)[:5]}"
    # Some slopes are too small to change a number: those of biases in front of a norm layer.
    due = {
        n for n, p in model.module.named_parameters() if p.grad is not None and not torch.equal(p - RATE * p.grad, p)
    }
    optimizer.step()
    moved = {n for n, t in tensors(model.module) if not torch.equal(t, before[n])}
    head = model.groups[-1]
    if text == "backbone" and not moved <= {*head.parameters, *head.buffers}:
        return f"frozen, but moved: {sorted(moved - {*head.parameters, *head.buffers})[:5]}"
    if not due <= moved or not due & set(head.parameters):
        return f"learning, but not moved: {sorted(due - moved)[:5]}"
    return ""


def tensors(module):
    yield from module.named_parameters()
    yield from module.named_buffers()
