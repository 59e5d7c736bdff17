"""LoRA: same outputs at the start, gradients everywhere, and weights that merge into the plain architecture."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ModelError
from zoo.training.lora import add_lora, base_name, choose_layers, merged_state


def _torchvision() -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    net = VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=48, mlp_dim=96, num_classes=10)
    nn.init.normal_(net.heads.head.weight, std=0.1)  # torchvision's starts at zero: nothing would reach the backbone
    return net


SMALL = {"img_size": 32, "num_classes": 10, "embed_dim": 48, "depth": 2, "num_heads": 2}


def _swin() -> nn.Module:
    net = timm.create_model(
        "swinv2_tiny_window8_256",
        img_size=64,
        num_classes=10,
        embed_dim=48,
        depths=(1, 1),
        num_heads=(3, 3),
        window_size=4,
    )
    for name, parameter in net.named_parameters():
        if "norm" in name and name.endswith("weight"):
            nn.init.ones_(parameter)  # timm's residual branches start at zero: nothing would reach what is inside
    return net


MAKE = {
    "timm vit": lambda: timm.create_model("test_vit", img_size=32, num_classes=10),
    "torchvision": _torchvision,
    "beit": lambda: timm.create_model("beit_base_patch16_224", **SMALL),
    "eva": lambda: timm.create_model("eva02_tiny_patch14_224", **SMALL | {"patch_size": 16, "num_heads": 4}),
    "eva, fused": lambda: timm.create_model("eva_giant_patch14_224", **SMALL | {"patch_size": 16}),
    "swin": _swin,
}
HEADS = ("head.", "heads.", "fc_norm")


def _made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net = MAKE[name]().eval()
    return net, torch.randn(2, 3, 64 if name == "swin" else 32, 64 if name == "swin" else 32)


def _allowed(net: nn.Module) -> set[str]:
    return {n for n, _ in net.named_parameters() if not n.startswith(HEADS)}


def _head(net: nn.Module) -> set[str]:
    return {n for n, _ in net.named_parameters()} - _allowed(net)


@pytest.mark.parametrize("kind", ["attention", "all"])
@pytest.mark.parametrize("name", MAKE)
def test_start_gradients_and_merging(name: str, kind: str) -> None:
    net, images = _made(name)
    plain, shapes = copy.deepcopy(net), {k: v.shape for k, v in net.state_dict().items()}
    start = net(images)
    layers = choose_layers(net, _allowed(net), kind, rank=4)
    report = add_lora(net, layers, rank=4, alpha=8, trainable=_head(net))
    assert torch.allclose(net(images), start, atol=1e-6)

    # Two steps: in the first A has no gradient, because B is zero.
    trainable = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(net.train()(images), torch.tensor([1, 2])).backward()
        optimizer.step()
    named = dict(net.named_parameters())
    assert all(named[n].grad.abs().sum() > 0 for n in report.adapters)
    assert len(report.adapters) == 2 * len(layers)
    assert report.parameters == sum(named[n].numel() for n in report.adapters)
    assert set(report.frozen) == named.keys() - set(report.adapters) - _head(plain)
    assert all(torch.equal(named[n], plain.get_parameter(base_name(n))) for n in report.frozen)

    merged = merged_state(net)
    assert {k: v.shape for k, v in merged.items()} == shapes
    after = net.eval()(images)
    assert not torch.allclose(after, start, atol=1e-3)
    plain.load_state_dict(merged, strict=True)
    assert torch.allclose(plain(images), after, atol=1e-5)
    with torch.no_grad():  # torch's fused attention, which evaluation takes, reads the same weights
        assert torch.allclose(net(images), after, atol=1e-5)


def test_the_difference_is_b_times_a_block_by_block() -> None:
    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=10)
    name = "blocks.0.attn.qkv.weight"
    before = net.get_parameter(name).detach().clone()
    add_lora(net, [name], rank=2, alpha=6)
    pair = net.blocks[0].attn.qkv.parametrizations.weight[0]
    assert (pair.a.shape, pair.b.shape) == ((3, 2, 64), (3, 64, 2))
    assert float(pair.a.detach().abs().max()) <= 64**-0.5
    with torch.no_grad():
        pair.b.normal_()
    expected = before.clone()
    for block in range(3):  # query, key and value apart
        expected[64 * block : 64 * (block + 1)] += 6 / 2 * pair.b[block] @ pair.a[block]
    assert torch.allclose(merged_state(net)[name], expected, atol=1e-5)


def test_less_than_a_tenth_of_test_vit_is_trained() -> None:
    net = timm.create_model("test_vit", num_classes=10)
    everything = sum(p.numel() for p in net.parameters())
    report = add_lora(net, choose_layers(net, _allowed(net), "attention"), trainable=_head(net))
    trainable = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert trainable == report.parameters + sum(p.numel() for p in net.head.parameters())
    assert trainable < 0.1 * everything


def test_what_is_chosen() -> None:
    net, _ = _made("swin")
    attention = choose_layers(net, _allowed(net), "attention")
    assert {n.split("attn.")[1] for n in attention} == {"qkv.weight", "proj.weight"}  # no table of positions
    assert {n for n in choose_layers(net, _allowed(net), "all") if ".mlp." in n}
    assert choose_layers(net, {attention[0], "head.fc.weight"}, "attention") == attention[:1]
    tied = nn.ModuleDict({"attn": nn.Linear(64, 64), "attn2": nn.Linear(64, 64), "attn3": nn.Linear(64, 64)})
    tied["attn2"].weight = tied["attn"].weight
    assert choose_layers(tied, {"attn.weight", "attn3.weight"}, "attention") == ("attn3.weight",)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("blocks.0.attn.qkv.parametrizations.weight.original", "blocks.0.attn.qkv.weight"),
        ("l.self_attention.parametrizations.in_proj_weight.0.a", "l.self_attention.in_proj_weight"),
        ("parametrizations.weight.0.b", "weight"),
        ("blocks.0.attn.qkv.bias", "blocks.0.attn.qkv.bias"),
    ],
)
def test_names(name: str, plain: str) -> None:
    assert base_name(name) == plain


def test_a_copy_is_trained_independently() -> None:
    net = timm.create_model("test_vit", num_classes=10)
    add_lora(net, choose_layers(net, _allowed(net), "attention"))
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for pair in (m for m in twin.modules() if type(m).__name__ == "LowRank"):
            pair.b.normal_()
    name = "blocks.0.attn.proj.weight"
    assert not torch.equal(merged_state(twin)[name], merged_state(net)[name])
    assert torch.equal(merged_state(net)[name], net.state_dict()["blocks.0.attn.proj.parametrizations.weight.original"])


def test_without_lora_the_state_is_the_modules_own() -> None:
    net = timm.create_model("test_vit", num_classes=10)
    merged, own = merged_state(net), net.state_dict()
    assert list(merged) == list(own)
    assert all(merged[k].data_ptr() == v.data_ptr() for k, v in own.items())


def test_errors() -> None:
    net = timm.create_model("test_resnet", num_classes=10)
    with pytest.raises(ModelError, match="ResNet has no attention layer") as e:
        choose_layers(net, {n for n, _ in net.named_parameters()}, "attention")
    assert "transformers" in e.value.hint
    vit = timm.create_model("test_vit", num_classes=10)
    with pytest.raises(ModelError, match="rank 64 would make smaller"):
        choose_layers(vit, _allowed(vit), "attention", rank=64)
    with pytest.raises(ModelError, match="no kind of LoRA layers 'mlp'"):
        choose_layers(vit, _allowed(vit), "mlp")
    with pytest.raises(ModelError, match="rank 0"):
        add_lora(vit, [], rank=0)
