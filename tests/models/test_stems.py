"""Kernels for any number of channels from weights made for another, by each rule."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import adapt_input_conv
from torch.nn.functional import conv2d

from zoo.errors import ModelError
from zoo.models import build, build_on_meta
from zoo.models.stems import adapt_kernel, adapt_patches, extend_statistics

CHANNELS = (1, 2, 3, 4, 6, 13)


@pytest.fixture
def kernel():
    return torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()


def response(kernel, images):
    return conv2d(images, kernel)


def close(a, b):
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", CHANNELS)
def test_auto_is_timms_rule(kernel, channels):
    assert torch.equal(adapt_kernel(kernel, channels), adapt_input_conv(channels, kernel))
    half = kernel.half()
    assert torch.equal(adapt_kernel(half, channels), adapt_input_conv(channels, half))


@pytest.mark.parametrize("rule", ["auto", "sum", "repeat", "mean", "zero"])
def test_the_same_number_of_channels_changes_nothing(kernel, rule):
    assert adapt_kernel(kernel, 3, rule) is kernel


@pytest.mark.parametrize("channels", CHANNELS)
def test_mean_keeps_the_response_to_equal_channels(kernel, channels):
    grey = torch.randn(2, 1, 12, 12)
    adapted = adapt_kernel(kernel, channels, "mean")
    assert close(response(adapted, grey.expand(-1, channels, -1, -1)), response(kernel, grey.expand(-1, 3, -1, -1)))


def test_mean_keeps_the_differences_between_the_channels_it_had(kernel):
    adapted = adapt_kernel(kernel, 4, "mean")
    assert close(adapted[:, :3], kernel * 3 / 4)
    assert close(adapted[:, 3], kernel.mean(1) * 3 / 4)


@pytest.mark.parametrize("channels", [6, 12])
def test_repeat_keeps_the_response_to_equal_channels_for_multiples(kernel, channels):
    grey = torch.randn(2, 1, 12, 12)
    adapted = adapt_kernel(kernel, channels, "repeat")
    assert close(response(adapted, grey.expand(-1, channels, -1, -1)), response(kernel, grey.expand(-1, 3, -1, -1)))
    assert torch.equal(adapted[:, 0], adapted[:, 3])


def test_sum_of_a_grey_image_is_the_image_in_three_channels(kernel):
    grey = torch.randn(2, 1, 12, 12)
    assert close(response(adapt_kernel(kernel, 1, "sum"), grey), response(kernel, grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("channels", [4, 6, 13])
def test_zero_does_not_see_the_new_channels(kernel, channels):
    images = torch.randn(2, channels, 12, 12)
    adapted = adapt_kernel(kernel, channels, "zero")
    assert close(response(adapted, images), response(kernel, images[:, :3]))
    assert torch.equal(adapted[:, :3], kernel)


def test_zero_with_fewer_channels_takes_the_first(kernel):
    assert torch.equal(adapt_kernel(kernel, 2, "zero"), kernel[:, :2])


@pytest.mark.parametrize("rule", ["repeat", "mean", "zero"])
@pytest.mark.parametrize("source", [1, 2, 4, 6])
def test_weights_may_be_made_for_any_number_of_channels(rule, source):
    kernel = torch.randn(4, source, 3, 3)
    for channels in CHANNELS:
        adapted = adapt_kernel(kernel, channels, rule)
        assert adapted.shape == (4, channels, 3, 3)
        assert adapted.abs().sum() > 0


@pytest.mark.parametrize("rule", ["repeat", "mean", "zero", "sum"])
def test_a_stem_that_folds_pixels_into_channels_is_adapted_pixel_by_pixel(rule):
    folded = torch.randn(4, 4 * 3, 3, 3)  # squares of 2 x 2 pixels, the channels of each next to each other
    channels = 1 if rule == "sum" else 5
    adapted = adapt_kernel(folded, channels, rule, source=3)
    pixels = [adapt_kernel(folded[:, 3 * i : 3 * i + 3], channels, rule) for i in range(4)]
    assert close(adapted, torch.cat(pixels, 1))


def test_mean_and_standard_deviation_follow_the_rule():
    rgb = (0.4, 0.5, 0.6)
    assert extend_statistics(rgb, 3, "zero") == rgb
    assert extend_statistics(rgb, 1) == pytest.approx((0.5,))
    assert extend_statistics(rgb, 5) == (0.4, 0.5, 0.6, 0.4, 0.5)
    assert extend_statistics(rgb, 2, "mean") == pytest.approx((0.5, 0.5))
    assert extend_statistics(rgb, 2, "zero") == (0.4, 0.5)
    for rule in ("mean", "zero"):
        assert extend_statistics(rgb, 5, rule) == pytest.approx((0.4, 0.5, 0.6, 0.5, 0.5))


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("rule", ["auto", "repeat", "mean", "zero"])
def test_both_libraries_follow_the_rule(library, rule, tmp_path):
    name, stem = ("test_resnet", "conv1.0.weight") if library == "timm" else ("torchvision/squeezenet1_1", None)
    published = build(name, classes=2, weights="none").module.state_dict()
    stem = stem or "features.0.weight"
    save_file(published, tmp_path / "w.safetensors")
    model = build(name, classes=2, in_chans=5, stem=rule, weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(model.module.state_dict()[stem], adapt_kernel(published[stem], 5, rule))
    assert model.preprocess.mean == extend_statistics(build_on_meta(name).preprocess.mean, 5, rule)
    assert [line.partition(" ->")[0] for line in model.weights.adapted] == [
        f"{stem}: stem, {tuple(published[stem].shape)}"
    ]


@pytest.mark.parametrize("name", ["test_resnet", "torchvision/squeezenet1_1", "tresnet_m"])
def test_weights_of_another_number_of_channels_are_taken(name, tmp_path):
    save_file(build(name, classes=2, in_chans=4, weights="none").module.state_dict(), tmp_path / "w.safetensors")
    for channels in (1, 3, 6):
        model = build(name, classes=2, in_chans=channels, weights=str(tmp_path / "w.safetensors"))
        assert model.weights.missing == ()
        assert len(model.weights.adapted) == 1


def test_every_first_convolution_of_a_model_is_adapted(tmp_path):
    save_file(timm.create_model("crossvit_9_240").state_dict(), tmp_path / "w.safetensors")
    model = build("crossvit_9_240", classes=1000, in_chans=4, stem="mean", weights=str(tmp_path / "w.safetensors"))
    assert len([line for line in model.weights.adapted if ": stem," in line]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "median"}, "no stem rule 'median'"),
        ({"stem": "sum", "in_chans": 4}, "the stem rule sum supports 1 channel, not 4"),
    ],
)
def test_an_unsupported_rule_is_an_error(options, message):
    with pytest.raises(ModelError, match=message) as e:
        build("test_resnet", classes=2, weights="none", **options)
    assert e.value.hint


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(("rule", "channels"), [("repeat", 6), ("mean", 4), ("zero", 5), ("sum", 1)])
def test_a_linear_stem_on_flattened_patches_follows_the_same_rules(
    channels_last: bool, rule: str, channels: int
) -> None:
    """NaFlexVit and Gemma 4 multiply flattened patches: the same as a convolution with the patch as its kernel."""
    conv = torch.randn(7, 3, 4, 4)

    def flat(kernel: torch.Tensor) -> torch.Tensor:
        pixels = kernel.flatten(2)  # (out, channels, pixels)
        return (pixels.mT if channels_last else pixels).flatten(1)

    adapted = adapt_patches(flat(conv), channels, rule, source=3, channels_last=channels_last)
    assert torch.equal(adapted, flat(adapt_kernel(conv, channels, rule)))
