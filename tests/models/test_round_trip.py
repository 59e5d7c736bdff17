"""Saved as safetensors, described as JSON, loaded into a fresh model: identical logits."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file

from zoo.atomic_io import save_tensors
from zoo.models import build, load_strict, rebuild, record

MODELS, CHUNKS = 40, 5


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_model_comes_back_from_its_files_with_identical_logits(chunk, small_models, side_of, tmp_path):
    assert len(small_models) >= MODELS
    for name in small_models[:MODELS][chunk::CHUNKS]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = build(name, classes=3, in_chans=2, img_size=side_of(name), weights="none")
            images = torch.randn(2, *model.preprocess.input_size)
            with torch.no_grad():
                model.module.train()(images)  # the statistics of norm layers are no longer those of a new model
                expected = model.module.eval()(images)
            save_tensors(tmp_path / "model.safetensors", model.module.state_dict(), {})
            described = json.dumps(record(model))
            again = rebuild(json.loads(described))
        load_strict(again.module, load_file(tmp_path / "model.safetensors"))
        assert again.groups == model.groups, name
        with torch.no_grad():
            assert torch.equal(again.module.eval()(images), expected), name
