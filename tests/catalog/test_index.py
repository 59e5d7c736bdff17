from __future__ import annotations

import json
import subprocess
import sys

import pytest

from zoo.catalog import find, find_weights, index_versions
from zoo.catalog.entries import from_record, to_record
from zoo.catalog.index import INDEX, load_index, natural_key
from zoo.errors import ModelError
from zoo.preprocess import IMAGENET_MEAN


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("resnet34", "resnet34"),
        ("ResNet34", "resnet34"),
        (" resnet34 ", "resnet34"),
        ("resnet34.a1_in1k", "resnet34"),
        ("timm/resnet34", "resnet34"),
        ("timm/resnet34.a1_in1k", "resnet34"),
        ("torchvision/resnet34", "torchvision/resnet34"),
        ("torchvision/resnet34.IMAGENET1K_V1", "torchvision/resnet34"),
        ("alexnet", "torchvision/alexnet"),
        ("alexnet.imagenet1k_v1", "torchvision/alexnet"),
        ("zoo_tiny", "zoo_tiny"),
        ("builtin/zoo_tiny", "zoo_tiny"),
    ],
)
def test_a_name_identifies_one_model(name: str, listed: str) -> None:
    assert find(name).name == listed


def test_a_tag_is_returned_as_the_library_spells_it() -> None:
    assert find_weights("resnet34")[1] is None
    assert find_weights("resnet34.A1_IN1K")[1] == "a1_in1k"
    assert find_weights("alexnet.imagenet1k_v1")[1] == "IMAGENET1K_V1"


def test_a_deprecated_timm_name_leads_to_its_successor_and_tag() -> None:
    entry, tag = find_weights("convnext_tiny_in22ft1k")
    assert (entry.name, tag) == ("convnext_tiny", "fb_in22k_ft_in1k")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("resnet43", "no model named 'resnet43'", "resnet34"),
        ("torchvision/resnet43", "no model named 'torchvision/resnet43'", "torchvision/resnet34"),
        ("torchvision/vit_base_patch16_224", "no model named", "zoo list"),
        ("timm/alexnet", "no model named 'timm/alexnet'", "zoo list"),
        ("keras/resnet50", "no model named 'keras/resnet50'", "timm/, torchvision/, builtin/"),
        ("", "no model named ''", "zoo list"),
        ("timm/", "no model named 'timm/'", "zoo list"),
        ("resnet34.a9_in1k", "resnet34 has no weights tagged 'a9_in1k'", "a1_in1k"),
        ("resnet34.", "resnet34 has no weights tagged ''", "a1_in1k"),
        ("vgg16.nothing", "vgg16 has no weights tagged 'nothing'", "tv_in1k"),
        ("resnetblur18.a1_in1k", "resnetblur18 has no weights tagged", "no pretrained weights"),
    ],
)
def test_an_unknown_name_is_a_model_error_with_a_hint(name: str, message: str, hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        find(name)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 4


def test_known_figures() -> None:
    # Parameters: timm's results files and torchvision's documentation; GMACs: He et al. 2015, Dosovitskiy et al. 2021.
    resnet50, vit = find("resnet50"), find("vit_base_patch16_224")
    assert resnet50.params == find("torchvision/resnet50").params == 25_557_032
    assert resnet50.gmacs == pytest.approx(4.09, abs=0.02)
    assert vit.params == 86_567_656
    assert vit.gmacs == pytest.approx(17.58, abs=0.05)  # 16.87 without the two products of attention
    assert find("torchvision/googlenet").params == 6_624_904  # without auxiliary heads, as torchvision documents it


def test_input_and_weights_of_an_entry() -> None:
    entry = find("convnext_tiny")
    assert entry.source == "timm"
    assert entry.family == "convnext"
    assert entry.first_conv == "stem.0"
    assert entry.classifier == "head.fc"
    by_tag = {p.tag: p for p in entry.pretrained}
    assert by_tag["fb_in22k"].num_classes == 21841
    assert by_tag["fb_in22k"].hub_id == "timm/convnext_tiny.fb_in22k"
    assert by_tag["fb_in22k_ft_in1k_384"].input_size == (3, 384, 384)
    assert by_tag["fb_in1k"].license == "apache-2.0"
    assert entry.default_tag == entry.tags[0]
    assert entry.weights() is entry.pretrained[0]


def test_torchvision_weights_have_url_preprocessing_and_license() -> None:
    entry = find("torchvision/vit_h_14")
    assert entry.architecture == "vit_h_14"
    assert (entry.first_conv, entry.classifier) == ("conv_proj", "heads.head")
    assert {p.license for p in entry.pretrained} == {"cc-by-nc-4.0"}
    assert find("torchvision/resnet50").default_tag == "IMAGENET1K_V2"
    weights = find("torchvision/resnet50").weights("imagenet1k_v1")
    assert weights is not None
    assert weights.url is not None
    assert weights.url.endswith("resnet50-0676ba61.pth")
    assert weights.preprocess.crop_pct == 224 / 256
    assert weights.preprocess.mean == IMAGENET_MEAN
    assert weights.preprocess.interpolation == "bilinear"
    features = find("torchvision/vgg16").weights("IMAGENET1K_FEATURES")
    assert features is not None
    assert features.num_classes == 0


def test_several_stems_and_heads_are_tuples() -> None:
    assert find("deit_base_distilled_patch16_224").classifier == ("head", "head_dist")
    assert isinstance(find("crossvit_15_240").first_conv, tuple)


def test_every_record_is_complete_and_survives_the_round_trip() -> None:
    index = load_index()
    assert len(index) >= 1_400
    for name in index:
        entry = index[name]
        assert from_record(to_record(entry)) == entry
        assert to_record(entry) == index.record(name)
        channels = entry.preprocess.channels
        assert len(entry.preprocess.mean) == len(entry.preprocess.std) == channels
        assert len(set(entry.tags)) == len(entry.tags)
        assert index.resolve(name) == name
        if entry.source != "builtin":
            assert all(p.origin for p in entry.pretrained)
        json.dumps(entry.to_dict())


def test_the_file_is_in_natural_order_with_one_model_per_line() -> None:
    names = list(load_index())
    assert names == sorted(names, key=natural_key)
    assert names.index("resnet18") < names.index("resnet101")
    lines = INDEX.read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith('{"name":') for line in lines) == len(names)


def test_index_versions_are_those_of_the_build() -> None:
    assert set(index_versions()) == {"timm", "torch", "torchvision"}


def test_reading_the_catalog_imports_no_model_library() -> None:
    code = (
        "import sys\n"
        "from zoo.workflows.list_models import list_models\n"
        "assert 'densenet121' in list_models('*densenet*', max_params='10M', sort='-gmacs')\n"
        "heavy = {'torch', 'torchvision', 'timm', 'numpy', 'pydantic', 'rich', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
