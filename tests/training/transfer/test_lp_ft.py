"""The head on cached features, compared with a plain loop through the whole model."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ModelError, TrainingError
from zoo.models import build
from zoo.preprocess import Preprocess
from zoo.training.forward_pass import ForwardPass
from zoo.training.inference import Normalize
from zoo.training.transfer import lp_ft
from zoo.training.transfer.lp_ft import ProbingOptions, ProbingPhase, run_probing_phase

CPU = torch.device("cpu")
NORMALIZE = Normalize(Preprocess((3, 32, 32), (0.5,) * 3, (0.25,) * 3))


class Batches:
    def __init__(self, images: Tensor, targets: Tensor, size: int = 8) -> None:
        self.images, self.targets, self.size = images, targets, size
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        torch.rand(())  # as a DataLoader draws its workers' seed
        if len(self.images):
            yield from zip(self.images.split(self.size), self.targets.split(self.size), strict=True)


def _data(n: int = 20, side: int = 32, classes: int = 4) -> Batches:
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, side, side), generator=g, dtype=torch.uint8)
    return Batches(images, torch.randint(0, classes, (n,), generator=g))


def _probe(
    module: nn.Module, head: tuple[str, ...], batches: Batches, *, amp_dtype=None, loss=F.cross_entropy, **more
) -> ProbingPhase:
    options = ProbingOptions(**{"epochs": 3, "lr": 1e-2, "weight_decay": 0.1, "batch_size": 8, "seed": 5, **more})
    return run_probing_phase(ForwardPass(module, NORMALIZE, CPU, amp_dtype), head, batches, loss, options)


def _plain(module: nn.Module, head: tuple[str, ...], batches: Batches) -> list[float]:
    """The same without cached features: the whole model, every time."""
    module.eval().requires_grad_(False)
    parameters = [p.requires_grad_(True) for path in head for p in module.get_submodule(path).parameters()]
    decayed, others = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}], 1e-2, weight_decay=0.1
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3 * len(batches))
    order, losses = torch.Generator().manual_seed(5), []
    for _ in range(3):
        total = 0.0
        for rows in torch.randperm(len(batches.images), generator=order).split(8):
            images, targets = batches.images[rows], batches.targets[rows]
            loss = F.cross_entropy(module((images / 255 - 0.5) / 0.25), targets)
            total += float(loss.detach()) * len(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        losses.append(total / len(batches.images))
    return losses


MODELS = [
    ("zoo_tiny", 32),
    ("test_resnet", 32),
    ("test_vit", 160),
    ("test_convnext", 32),
    ("test_efficientnet", 32),
    ("torchvision/resnet18", 32),
    ("torchvision/mobilenet_v3_small", 32),
    ("mobilenet_v2", 32),
]


@pytest.mark.parametrize(("name", "side"), MODELS)
def test_cached_features_give_what_whole_passes_give(name: str, side: int) -> None:
    torch.manual_seed(0)
    model = build(name, classes=4, weights="none")
    batches = _data(side=side)
    plain = copy.deepcopy(model.module)
    losses = _plain(plain, model.head, batches)
    found = _probe(model.module, model.head, batches)
    assert (found.cached, found.images, found.epochs) == (True, 20, 3)
    assert found.first_loss == pytest.approx(losses[0], rel=1e-4)
    assert found.last_loss == pytest.approx(losses[-1], rel=1e-3)
    assert found.last_loss < found.first_loss
    for (key, ours), theirs in zip(model.module.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4), key


@pytest.mark.parametrize(("name", "side"), MODELS)
def test_a_linear_head_is_fitted_and_any_other_is_stepped(name: str, side: int) -> None:
    torch.manual_seed(0)
    model = build(name, classes=4, weights="none")
    layer = model.module.get_submodule(model.head[0])
    asked: list[tuple[int, ...]] = []

    def fit(layer: nn.Linear, features: Tensor, targets: Tensor) -> float:
        asked.append(tuple(features.shape))
        with torch.no_grad():
            layer.bias.copy_(torch.tensor([3.0, 2.0, 1.0, 0.0]))
        return 0.25

    options = ProbingOptions(epochs=3, lr=1e-2, weight_decay=0.1, batch_size=8, seed=5)
    forward = ForwardPass(model.module, NORMALIZE, CPU, None)
    found = run_probing_phase(forward, model.head, _data(side=side), F.cross_entropy, options, fit=fit)
    assert asked == [(20, layer.in_features)]
    assert layer.bias.tolist() == [3, 2, 1, 0]
    assert (found.epochs, found.last_loss, found.cached, found.images) == (0, 0.25, True, 20)
    layer.bias.requires_grad_(False)  # no longer the whole layer
    asked.clear()
    again = run_probing_phase(forward, model.head, _data(side=side), F.cross_entropy, options, fit=fit)
    assert (again.epochs, asked) == (3, [])


def test_a_head_of_several_layers_is_trained_without_dropout() -> None:
    from torchvision.models.vgg import VGG, make_layers

    torch.manual_seed(0)
    module = VGG(make_layers([8, "M"]), num_classes=4)
    module.classifier = nn.Sequential(nn.Linear(8 * 49, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 4))
    plain, batches = copy.deepcopy(module), _data()
    losses = _plain(plain, ("classifier",), batches)
    found = _probe(module, ("classifier",), batches)
    assert found.cached
    assert found.last_loss == pytest.approx(losses[-1], rel=1e-3)
    assert torch.allclose(module.classifier[0].weight, plain.classifier[0].weight, atol=2e-4)


def _frozen_copy(module: nn.Module, head: tuple[str, ...]) -> dict[str, Tensor]:
    inside = tuple(f"{path}." for path in head)
    return {k: v.clone() for k, v in module.state_dict().items() if not k.startswith(inside)}


def test_only_the_head_changes_and_modes_are_restored() -> None:
    torch.manual_seed(0)
    model = build("test_resnet", classes=4, weights="none")
    module = model.module
    module.layer1.eval()
    module.layer2.requires_grad_(False)
    module.conv1[0].weight.grad = torch.ones_like(module.conv1[0].weight)
    modes = [part.training for part in module.modules()]
    needs = [p.requires_grad for p in module.parameters()]
    before, head = _frozen_copy(module, model.head), module.fc.weight.detach().clone()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    _probe(module, model.head, _data())
    assert torch.equal(torch.rand(3), expected)
    assert not torch.equal(module.fc.weight, head)
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in before.items())
    assert modes == [part.training for part in module.modules()]
    assert needs == [p.requires_grad for p in module.parameters()]
    assert torch.equal(module.conv1[0].weight.grad, torch.ones_like(module.conv1[0].weight))
    assert module.fc.weight.grad is None


def test_two_heads_go_through_the_frozen_model() -> None:
    torch.manual_seed(0)
    from timm.models.deit import VisionTransformerDistilled

    module = VisionTransformerDistilled(
        img_size=32, patch_size=16, embed_dim=32, depth=1, num_heads=2, num_classes=4, drop_rate=0.5
    )
    head = ("head", "head_dist")
    before, batches = _frozen_copy(module, head), _data()
    found = _probe(module, head, batches, epochs=9)
    assert (found.cached, found.epochs, found.images) == (False, lp_ft.FALLBACK_EPOCHS, 20)
    assert batches.epochs == [0, 1, 2]
    assert found.last_loss < found.first_loss
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in before.items())


def test_pooling_after_the_head() -> None:
    torch.manual_seed(0)
    model = build("torchvision/squeezenet1_0", classes=4, weights="none")
    assert model.head == ("classifier.1",)  # a convolution, with a ReLU after it
    with torch.no_grad():  # random weights leave that ReLU dead
        model.module.classifier[1].weight.mul_(1e-2)
        model.module.classifier[1].bias.fill_(0.1)
    found = _probe(model.module, model.head, _data())
    assert not found.cached
    assert found.last_loss < found.first_loss


class Odd(nn.Module):
    """A head that is not the end, or that is called twice."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.body, self.head = kind, nn.Linear(3 * 32 * 32, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out = self.head(self.body(x.flatten(1)))
        return self.head(out) if self.kind == "twice" else out * 2


@pytest.mark.parametrize("kind", ["twice", "followed"])
def test_a_head_that_does_not_explain_the_output_is_noticed(kind: str) -> None:
    torch.manual_seed(0)
    module = Odd(kind)
    plain, batches = copy.deepcopy(module), _data(n=8)  # one batch: the order does not matter
    _plain(plain, ("head",), batches)
    assert not _probe(module, ("head",), batches).cached
    assert torch.allclose(module.head.weight, plain.head.weight, atol=1e-6)


def test_memory_and_targets() -> None:
    torch.manual_seed(0)
    model = build("zoo_tiny", classes=4, weights="none")
    one = 192 * 4  # bytes of an image's features
    seen: list[Tensor] = []

    class Recorded(Batches):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            for images, targets in super().__iter__():
                seen.append(targets)
                yield images, targets

    batches = Recorded(_data().images, _data().targets)
    options = {"memory": 10 * one, "loss": lambda output, target: F.cross_entropy(output, target * 0)}
    found = _probe(model.module, model.head, batches, **options)
    assert found.images == 10
    assert torch.equal(torch.cat(seen), _data().targets[:16])  # two batches were read, no third
    with torch.no_grad():
        model.module.eval()
        assert (model.module(NORMALIZE(_data().images)).argmax(1) == 0).all()  # the targets that the loss saw


def test_images_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lp_ft, "MAX_IMAGES", 10)
    torch.manual_seed(0)
    assert _probe(nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)), ("1",), _data()).images == 10
    assert _probe(Odd("twice"), ("head",), _data()).images == 10


def test_bf16_features_make_a_head_as_well() -> None:
    torch.manual_seed(0)
    model = build("zoo_tiny", classes=4, weights="none")
    found = _probe(model.module, model.head, _data(), amp_dtype=torch.bfloat16)
    assert found.cached
    assert found.last_loss < found.first_loss
    assert model.module.fc.weight.dtype == torch.float32


def test_errors() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4))
    with pytest.raises(TrainingError, match="no training images"):
        _probe(module, ("1",), Batches(torch.empty(0, 3, 32, 32), torch.empty(0)))
    with pytest.raises(TrainingError, match=r"became nan.*linear-probing phase"):
        _probe(module, ("1",), _data(), loss=lambda output, target: output.sum() * math.nan)
    module[1].requires_grad_(False)
    with pytest.raises(ModelError, match="no trainable parameter"):
        _probe(module, ("1",), _data())
