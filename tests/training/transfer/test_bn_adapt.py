from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from zoo.errors import TrainingError
from zoo.preprocess import Preprocess
from zoo.training.forward_pass import ForwardPass
from zoo.training.inference import Normalize
from zoo.training.transfer.bn_adapt import update_bn_stats

CPU = torch.device("cpu")
NORMALIZE = Normalize(Preprocess((3, 16, 16), (0.5,) * 3, (0.25,) * 3))


def _batches(*sizes: int, side: int = 16) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(0)
    # Each batch brighter than the one before: the variance between batches matters.
    return [
        (torch.randint(20 * i, 20 * i + 60, (n, 3, side, side), generator=g).to(torch.uint8), torch.zeros(n))
        for i, n in enumerate(sizes)
    ]


def _images(batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    return (torch.cat([images for images, _ in batches]) / 255 - 0.5) / 0.25


def test_moments_are_those_of_all_values_whatever_the_batches() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    batches = _batches(5, 2, 7)
    assert update_bn_stats(ForwardPass(net, NORMALIZE, CPU), batches) == 1
    with torch.no_grad():
        values = net[0](_images(batches)).double().transpose(0, 1).flatten(1)
    assert torch.allclose(net[1].running_mean.double(), values.mean(1), atol=1e-6)
    assert torch.allclose(net[1].running_var.double(), values.var(1), atol=1e-6)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_byobnet"])
def test_every_layer_of_a_network(name: str) -> None:
    """With one batch, what torch itself writes with momentum 1 is the answer for layers at any depth."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=4, drop_rate=0.5, drop_path_rate=0.5).eval()
    plain = timm.create_model(name, num_classes=4).eval()
    plain.load_state_dict(net.state_dict())
    batches = _batches(6, side=64)
    layers = [m for m in plain.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.training, layer.momentum = True, 1.0
    with torch.no_grad():
        plain(_images(batches))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert update_bn_stats(ForwardPass(net, NORMALIZE, CPU), batches) == len(layers) > 5
    for key, tensor in net.state_dict().items():
        if "running" in key:
            assert torch.allclose(tensor, plain.state_dict()[key], rtol=1e-4, atol=1e-5), key
            assert not torch.equal(tensor, before[key]), key
        else:
            assert torch.equal(tensor, before[key]), key
    assert not any(m.training for m in net.modules())


def test_modes_and_other_norms_stay() -> None:
    net = nn.Sequential(
        nn.BatchNorm2d(3), FrozenBatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False), nn.Dropout(0.9)
    )
    net[0].momentum = 0.7
    net.train()
    net[3].eval()
    buffers = {k: v.data_ptr() for k, v in net.state_dict().items()}
    frozen = net[1].running_mean.clone()
    assert update_bn_stats(ForwardPass(net, NORMALIZE, CPU), _batches(4)) == 1
    assert [m.training for m in net] == [True, True, True, False]
    assert torch.equal(net[1].running_mean, frozen)
    assert (net[0].momentum, int(net[0].num_batches_tracked)) == (0.7, 0)
    assert {k: v.data_ptr() for k, v in net.state_dict().items()} == buffers  # the same tensors, in the same order
    assert not net[0]._forward_pre_hooks


def test_a_layer_used_twice_meets_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.norm(x) + 5)

    net = Twice()
    update_bn_stats(ForwardPass(net, NORMALIZE, CPU), _batches(8))
    mean = _images(_batches(8)).mean((0, 2, 3))
    assert torch.allclose(net.norm.running_mean, (mean + 5) / 2, atol=1e-4)


def test_how_much_is_read() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3))
    batches = _batches(1, 4, 4, 4)  # the single image is left out
    update_bn_stats(ForwardPass(net, NORMALIZE, CPU), batches, max_images=5)
    assert torch.allclose(net[0].running_mean, _images(batches[1:3]).mean((0, 2, 3)), atol=1e-5)
    with pytest.raises(TrainingError, match="two images in a batch"):
        update_bn_stats(ForwardPass(net, NORMALIZE, CPU), _batches(1, 1))
    assert net[0].running_mean is not None
    assert update_bn_stats(ForwardPass(nn.Sequential(nn.LayerNorm(16)), NORMALIZE, CPU), []) == 0


def test_bf16() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    update_bn_stats(ForwardPass(net, NORMALIZE, CPU, torch.bfloat16), _batches(6))
    half = net[1].running_mean.clone()
    update_bn_stats(ForwardPass(net, NORMALIZE, CPU), _batches(6))
    assert torch.allclose(half, net[1].running_mean, atol=2e-2)
    assert half.dtype == torch.float32
