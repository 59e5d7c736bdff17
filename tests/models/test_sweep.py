"""Every model of timm and torchvision: head, stem, groups and the plan `backbone`, on the meta device."""

from __future__ import annotations

import warnings

import pytest

from zoo.catalog.index import load_index
from zoo.errors import ModelError

NAMES = list(load_index())
CHUNKS = -(-len(NAMES) // 40)
ENCODERS = [
    "deepseek_vit_412m_enc",
    "gemma4_vit_167m_enc",
    "gemma4_vit_570m_enc",
    "mobilenetv5_300m_enc",
    "qwen3_vit_306m_enc",
    "qwen3_vit_416m_enc",
    "qwen3_vit_88m_enc",
]
# (Name, channels) → how it is refused.
REFUSED = {
    # They give tokens or maps of features to something else, and timm gives them no classifier.
    **{(name, channels): "is an encoder and cannot have a classifier" for name in ENCODERS for channels in (1, 4)},
    # They turn RGB into frequencies with three constants for each.
    **{(name, channels): "cannot take images of" for name in ("csatv2", "csatv2_21m") for channels in (1, 4)},
}


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_model_takes_any_head_and_stem_and_has_ordered_groups(chunk, check_structure):
    mine = NAMES[chunk::CHUNKS]  # neighbours in the catalog, which cost alike, in different chunks
    failures = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in mine:
            for channels in (1, 4):
                try:
                    check_structure(name, classes=7, in_chans=channels)
                except (AssertionError, ModelError, RuntimeError) as e:
                    failures[name, channels] = str(e)
    expected = {key: message for key, message in REFUSED.items() if key[0] in mine}
    assert failures.keys() == expected.keys(), {k: v for k, v in failures.items() if k not in expected}
    assert all(message in failures[key] for key, message in expected.items())


def test_the_catalog_has_what_is_swept():
    sources = [load_index()[name].source for name in NAMES]
    assert sources.count("timm") >= 1371
    assert sources.count("torchvision") == 80
