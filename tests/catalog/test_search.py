from __future__ import annotations

import pytest

from zoo.catalog import ModelEntry, nearest_models, parse_count, search, widen
from zoo.catalog.index import natural_key
from zoo.errors import UsageError
from zoo.workflows.list_models import list_models, search_models


def test_a_glob_gives_both_libraries() -> None:
    names = list_models("*densenet*")
    assert {"densenet121", "tv_densenet121", "torchvision/densenet121"} - set(names) == {"tv_densenet121"}
    assert all("densenet" in name for name in names)


def test_without_a_pattern_everything() -> None:
    assert len(list_models()) >= 1_452
    assert len(set(list_models())) == len(list_models())


def test_a_plain_name_gives_that_model_of_each_library() -> None:
    assert list_models("resnet34") == ["resnet34", "torchvision/resnet34"]
    assert list_models("RESNET34") == list_models("resnet34")


def test_a_part_of_a_name_is_widened() -> None:
    assert widen("densenet") == "*densenet*"
    assert widen("resnet34") == "resnet34"
    assert widen("densenet*") == "densenet*"
    assert list_models("densenet") == list_models("*densenet*")


def test_a_pattern_with_a_slash_looks_at_the_source() -> None:
    assert list_models("torchvision/resnet*") == list_models("resnet*", source="torchvision")
    assert list_models("timm/resnet18") == ["resnet18"]
    # Without a slash the source is no part of the name.
    assert not any(name.startswith("torchvision/resnet") for name in list_models("t*"))


def test_a_pattern_with_a_dot_looks_at_the_tags() -> None:
    found = search("resnet50.a1*")
    assert [e.name for e in found] == ["resnet50"]
    assert any(tag.startswith("a1") for tag in found[0].tags)
    assert "torchvision/resnet50" in list_models("resnet50.imagenet1k_v2")


def test_character_classes_and_question_marks() -> None:
    assert list_models("resnet[15]0", source="timm") == list_models("resnet?0", source="timm") == ["resnet50"]


def test_natural_order_and_its_reverse() -> None:
    names = list_models("resnet*", source="timm")
    assert names.index("resnet18") < names.index("resnet101")
    assert list_models("resnet*", source="timm", sort="-name") == names[::-1]
    assert natural_key("a2b") < natural_key("a10b") < natural_key("ab")


@pytest.mark.parametrize("key", ["params", "gmacs", "input", "tags"])
def test_sorting_by_a_number(key: str) -> None:
    def value(entry: ModelEntry) -> float | None:
        _, height, width = entry.input_size
        values = {"params": entry.params, "gmacs": entry.gmacs, "input": height * width, "tags": len(entry.tags)}
        return values[key]

    up = [value(e) for e in search("*", sort=key)]
    down = [value(e) for e in search("*", sort=f"-{key}")]
    known = [v for v in up if v is not None]
    assert known == sorted(known)
    assert up[: len(known)] == known
    assert down == sorted(known, reverse=True) + up[len(known) :]


def test_ties_are_in_natural_order_in_both_directions() -> None:
    same_size = [e.name for e in search("resnet*", sort="-input") if e.input_size == (3, 224, 224)]
    assert same_size == sorted(same_size, key=natural_key)


def test_limits() -> None:
    small = search_models(max_params="1M")
    assert small
    assert all(e.params is not None and e.params <= 1_000_000 for e in small)
    assert [e.name for e in search_models(max_params=1_000_000)] == [e.name for e in small]
    assert all(e.pretrained for e in search_models("*vit*", pretrained=True))
    assert len(search_models("*vit*", pretrained=True)) < len(search_models("*vit*"))
    assert {e.source for e in search_models(source="builtin")} == {"builtin"}
    assert list_models("resnet*", limit=3) == list_models("resnet*")[:3]
    assert list_models("no_such_model") == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("25M", 25_000_000),
        ("25m", 25_000_000),
        ("1.5B", 1_500_000_000),
        ("1G", 1_000_000_000),
        ("300k", 300_000),
        (" .5M ", 500_000),
        ("25_000_000", 25_000_000),
        ("25,000,000", 25_000_000),
        (7, 7),
        (25e6, 25_000_000),
    ],
)
def test_counts(text: float | str, count: int) -> None:
    assert parse_count(text, "x") == count


@pytest.mark.parametrize("text", ["abc", "", "M", "-5", "1e6", "25MM", "1.2.3", "nan", "٣"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(UsageError, match="max_params"):
        parse_count(text, "max_params")


@pytest.mark.parametrize(
    ("wrong", "known"),
    [
        ({"sort": "foo"}, "name, params, gmacs, input, tags"),
        ({"sort": ""}, "name, params"),
        ({"sort": "--name"}, "name, params"),
        ({"source": "keras"}, "timm, torchvision, builtin"),
        ({"limit": 0}, "at least 1"),
        ({"limit": -3}, "at least 1"),
        ({"max_params": "abc"}, "25M"),
    ],
)
def test_a_wrong_value_is_a_usage_error_with_the_known_ones(wrong: dict[str, object], known: str) -> None:
    with pytest.raises(UsageError) as caught:
        search("*", **wrong)  # type: ignore[arg-type]
    assert known in caught.value.hint
    assert caught.value.exit_code == 2


def test_nearest_names_look_past_the_wildcards() -> None:
    assert "resnet34" in nearest_models("*resnet43*")
    assert nearest_models("*") == []
