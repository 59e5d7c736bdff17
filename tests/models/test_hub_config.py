"""A stranger's config.json: believed only where it is plain, and before any memory is taken."""

from __future__ import annotations

import json
import time

import pytest

from zoo.errors import WeightsError
from zoo.models.hub_config import read_config

GOOD = {
    "architecture": "test_vit",
    "num_classes": 7,
    "model_args": {"img_size": 96},
    "pretrained_cfg": {
        "input_size": [3, 96, 96],
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.2, 0.2],
        "interpolation": "bilinear",
        "crop_pct": 0.9,
        "classifier": "head",
        "url": "http://evil/x.pth",
        "file": "/etc/passwd",
        "hf_hub_id": "evil/evil",
        "custom_load": True,
        "state_dict": {},
    },
}


def write(path, values):
    path = path / "config.json"
    path.write_bytes(values if isinstance(values, bytes) else json.dumps(values).encode())
    return path


def test_what_describes_the_model_is_taken_and_what_names_files_is_not(tmp_path):
    described = read_config(write(tmp_path, GOOD), "owner/name")
    assert (described.source, described.architecture) == ("timm", "test_vit")
    assert described.args == {"img_size": 96, "num_classes": 7}
    assert described.cfg == {
        "input_size": (3, 96, 96),
        "mean": (0.4, 0.5, 0.6),
        "std": (0.2, 0.2, 0.2),
        "interpolation": "bilinear",
        "crop_pct": 0.9,
        "classifier": "head",
        "num_classes": 7,
    }


def test_timms_older_form_keeps_the_fields_at_the_top(tmp_path):
    flat = {"architecture": "test_vit", "num_classes": 4, "input_size": [3, 160, 160], "mean": [0.5, 0.5, 0.5]}
    assert read_config(write(tmp_path, flat), "x").cfg["mean"] == (0.5, 0.5, 0.5)


NO_JSON = {
    "text": b"not found",
    "empty": b"",
    "latin-1": '{"architecture": "résnet"}'.encode("latin-1"),
    "deep": b'{"a":' * 200_000,
    "deep list": b"[" * 200_000,
    "list": b"[]",
    "number": b"1" * 10_000,
    "truncated": b'{"architecture": "test_vi',
    "utf-16": '{"architecture": "test_vit"}'.encode("utf-16"),
}


@pytest.mark.parametrize("name", NO_JSON)
def test_what_is_no_configuration(name, tmp_path):
    with pytest.raises(WeightsError, match=r"config\.json of owner/name"):
        read_config(write(tmp_path, NO_JSON[name]), "owner/name")


def changed(**changes):
    return {**GOOD, **changes}


def with_args(**args):
    return changed(model_args=args)


def with_cfg(**cfg):
    return changed(pretrained_cfg={**GOOD["pretrained_cfg"], **cfg})


HOSTILE = {
    "no architecture": ({"num_classes": 3}, "has no architecture"),
    "a transformers model": ({"architectures": ["ResNetForImageClassification"]}, "ResNetForImageClassification"),
    "unknown architecture": (changed(architecture="resnet35"), "'resnet35'"),
    "architecture is a list": (changed(architecture=["resnet34"]), "has no architecture"),
    "another source": (changed(architecture="hf-hub:evil/evil"), "does not have"),
    "classes 1e10": (changed(num_classes=10**10), "num_classes"),
    "classes in model_args": (with_args(num_classes=10**10), "num_classes"),
    "classes is text": (changed(num_classes="7"), "num_classes"),
    "classes is true": (changed(num_classes=True), "num_classes"),
    "classes is negative": (changed(num_classes=-1), "num_classes"),
    "classes is infinite": (b'{"architecture": "test_vit", "num_classes": 1e999}', "num_classes"),
    "img_size 1e6": (with_args(img_size=10**6), "img_size"),
    "img_size list": (with_args(img_size=[10**6, 1]), "img_size"),
    "input_size 1e6": (with_cfg(input_size=[3, 10**6, 10**6]), "input_size"),
    "input_size of two": (with_cfg(input_size=[224, 224]), "input_size"),
    "channels 1e9": (with_cfg(input_size=[10**9, 32, 32]), "input_size"),
    "depth 1e5": (with_args(depth=10**5), "depth"),
    "depths": (changed(architecture="test_convnext", model_args={"depths": [900, 900, 1, 1]}), "depths"),
    "width 1e9": (with_args(embed_dim=10**9), "embed_dim"),
    "wide and many": (with_args(embed_dim=96_000, depth=900, num_heads=100), "billion parameters"),
    "many tokens": (with_args(img_size=4096, patch_size=1, embed_dim=60_000), "billion parameters"),
    "unknown argument": (with_args(nonsense=3), "nonsense"),
    "wrong type": (with_args(embed_dim="wide"), "does not support"),
    "nothing divides": (with_args(num_heads=0), "does not support"),
    "a checkpoint": (with_args(checkpoint_path="/etc/passwd"), "checkpoint_path"),
    "an overlay": (with_args(pretrained_cfg_overlay={"file": "x"}), "pretrained_cfg_overlay"),
    "pretrained": (with_args(pretrained=True), "pretrained"),
    "a nested argument": (with_args(block={"a": 1}), "block"),
    "a long list": (with_args(out=[1] * 1000), "too long a list"),
    "model_args is a list": (changed(model_args=[1]), "model_args"),
    "pretrained_cfg is a number": (changed(pretrained_cfg=3), "pretrained_cfg"),
    "std 0": (with_cfg(std=[0, 0, 0]), "std"),
    "mean is NaN": (with_cfg(mean=[float("nan")] * 3), "mean"),
    "mean for other channels": (with_cfg(mean=[0.5, 0.5]), "mean"),
    "interpolation": (with_cfg(interpolation="evil"), "interpolation"),
    "crop_pct 0": (with_cfg(crop_pct=0), "crop_pct"),
    "classifier is a number": (with_cfg(classifier=3), "classifier"),
    "torchvision unknown": ({"library": "torchvision", "architecture": "resnet19"}, "'resnet19'"),
    "torchvision argument": (
        {"library": "torchvision", "architecture": "resnet18", "model_args": {"evil": 1}},
        "does not support",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_configuration_is_refused_soon_and_named(name, tmp_path):
    values, message = HOSTILE[name]
    before = time.monotonic()
    with pytest.raises(WeightsError, match=r"config\.json of owner/name") as e:
        read_config(write(tmp_path, values), "owner/name")
    assert message in e.value.message
    assert len(e.value.message) < 500
    assert "--weights FILE" in e.value.hint
    # Nine hundred wide blocks are made, without their numbers; everything else is refused at once.
    assert time.monotonic() - before < 20


def test_a_configuration_of_a_hundred_megabytes_is_not_read(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as f:
        f.truncate(100_000_000)
    with pytest.raises(WeightsError, match="100,000,000 bytes"):
        read_config(path, "x")


@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf", "vit_b_32"])
def test_torchvisions_are_understood(name, tmp_path):
    values = {"library": "torchvision", "architecture": name, "num_classes": 3, "model_args": {"num_classes": 3}}
    values["preprocess"] = {"input_size": [1, 32, 32], "mean": [0.5], "std": [0.5]}
    described = read_config(write(tmp_path, values), "x")
    assert (described.source, described.args, described.cfg["mean"]) == ("torchvision", {"num_classes": 3}, (0.5,))
