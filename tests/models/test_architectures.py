"""Which models a state dict belongs to."""

from __future__ import annotations

import random

import pytest

from zoo.catalog import search
from zoo.errors import ModelError
from zoo.models import build_on_meta
from zoo.models.architectures import architectures_for

Shapes = dict[str, tuple[int, ...]]


def shapes_of(name: str, *, classes: int | None = 7, in_chans: int = 1, img_size: int | None = None) -> Shapes:
    module = build_on_meta(name, classes=classes, in_chans=in_chans, img_size=img_size).module
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


@pytest.mark.parametrize(
    "name",
    [
        "resnet34",
        "vit_base_patch16_224",
        "convnext_atto",
        "efficientnet_b0",
        "swin_tiny_patch4_window7_224",
        "deit_tiny_distilled_patch16_224",
        "zoo_tiny",
        "torchvision/squeezenet1_1",
        "torchvision/regnet_y_400mf",
        "torchvision/inception_v3",
        "torchvision/vit_b_32",
        "torchvision/alexnet",
    ],
)
def test_another_head_and_another_number_of_channels_change_nothing(name: str) -> None:
    best = architectures_for(shapes_of(name))[0]
    assert name in best.names
    assert best.exact
    assert best.share == 1.0
    assert (best.classes, best.in_chans) == (7, 1)


def test_models_that_nothing_tells_apart_are_named_together() -> None:
    found = architectures_for(shapes_of("resnet50"))
    assert {"resnet50", "torchvision/resnet50"} <= set(found[0].names)
    assert [fit.exact for fit in found] == [True, False, False]
    assert [fit.share for fit in found] == sorted((fit.share for fit in found), reverse=True)
    assert "resnet50" not in found[1].names


def test_position_embeddings_of_another_image_size_differ() -> None:
    found = architectures_for(shapes_of("vit_tiny_patch16_224", img_size=96), n=2)
    assert "vit_tiny_patch16_224" in found[0].names + found[1].names
    assert not found[0].exact
    assert found[0].differing == ("pos_embed: (1, 37, 192) in the file, (1, 197, 192) in the model",)
    assert found[0].missing == found[0].unexpected == ()


def test_what_is_missing_and_left_over_is_named() -> None:
    shapes = shapes_of("resnet18")
    del shapes["layer4.1.conv2.weight"], shapes["fc.weight"], shapes["fc.bias"]
    shapes["extra.scale"] = (1,)
    best = architectures_for(shapes, n=1)[0]
    assert "resnet18" in best.names
    assert best.missing == ("layer4.1.conv2.weight",)
    assert best.unexpected == ("extra.scale",)
    assert best.classes is None
    assert 0.97 < best.share < 1
    assert best.to_dict()["names"] == list(best.names)


def test_old_files_without_counters_of_batches_fit() -> None:
    shapes = {k: s for k, s in shapes_of("resnet18").items() if not k.endswith("num_batches_tracked")}
    assert architectures_for(shapes)[0].exact


def test_what_is_no_model_fits_none() -> None:
    assert architectures_for({}) == []
    assert architectures_for({"weight": (3, 3), "bias": (3,)}) == []


def test_a_model_that_the_installed_library_lacks_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(architecture: str) -> None:
        raise RuntimeError(f"unknown model {architecture}")

    shapes = shapes_of("resnet18")
    monkeypatch.setattr("zoo.models.architectures.build_timm", fail)
    assert all("/" in name for fit in architectures_for(shapes) for name in fit.names[:1])


_SAMPLE = random.Random(0).sample([e.name for e in search()], 120)


# timm names one of its two classifiers only.
_OWN_WORDS = ("levit_384_s8", "levit_512_s8")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_the_right_one_comes_first_for_120_models_drawn_at_random(part: int) -> None:
    for name in _SAMPLE[part::8]:
        try:
            shapes = shapes_of(name)
        except ModelError:
            shapes = shapes_of(name, in_chans=3)  # its stem takes no other number
        (best,) = architectures_for(shapes, n=1)
        assert name in best.names, (name, best.names)
        if name not in _OWN_WORDS:
            assert best.exact, (name, best.differing, best.missing, best.unexpected)
