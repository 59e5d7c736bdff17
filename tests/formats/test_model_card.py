"""The model card of an export."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ruamel.yaml import YAML

from zoo.formats.model_card import render_model_card
from zoo.formats.spec import ExportSpec, Usage
from zoo.models import WeightsReport, build
from zoo.tasks import TaskName

USAGE = Usage("timm", "print(1)", "print(2)")


def header(text: str) -> dict:
    return YAML(typ="safe").load(text.split("---")[1])


def test_license_of_the_weights_or_unknown() -> None:
    model = replace(build("test_vit", classes=2, img_size=32, weights="none"), weights=WeightsReport("hf-hub:timm/x"))
    known = render_model_card(
        ExportSpec(model, ("a", "b"), model.preprocess, "run", "Apache-2.0", {"data": "photos"}), USAGE
    )
    assert header(known)["license"] == "apache-2.0"
    assert header(known)["library_name"] == "timm"
    assert "- data: photos\n" in known
    unknown = render_model_card(ExportSpec(model, ("a", "b"), model.preprocess, "run", None), USAGE)
    assert header(unknown)["license"] == "unknown"
    assert "hf-hub:timm/x" in unknown


def test_many_classes_are_shortened_and_names_are_escaped() -> None:
    model = build("test_vit", classes=3, img_size=32, weights="none")
    names = ("a`b", "line\nbreak", *(f"class{i}" for i in range(100)))
    text = render_model_card(ExportSpec(model, names, model.preprocess, "run", None), USAGE)
    assert "`a'b`, `line break`" in text
    assert "`class47`, …" in text
    assert "class48" not in text


@pytest.mark.parametrize(
    ("task", "pipeline", "tags", "words"),
    [
        ("single-label", "image-classification", ["image-classification"], "## Classes\n\n2: `a`, `b`"),
        ("multi-label", "image-classification", ["image-classification", "multi-label"], "## Labels"),
        ("regression", "other", ["image-regression"], "## Targets"),
    ],
)
def test_the_header_names_the_task(task: TaskName, pipeline: str, tags: list[str], words: str) -> None:
    model = build("test_vit", classes=2, img_size=32, weights="none")
    text = render_model_card(ExportSpec(model, ("a", "b"), model.preprocess, "run", None, task=task), USAGE)
    assert header(text)["pipeline_tag"] == pipeline
    assert header(text)["tags"] == tags
    assert words in text
