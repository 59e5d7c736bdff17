from __future__ import annotations

from dataclasses import replace

import pytest

from zoo.catalog import ModelEntry, nearest_models, parse_count, search, search_weights, widen
from zoo.catalog.index import natural_key
from zoo.catalog.search import parse_sizes
from zoo.errors import UsageError
from zoo.workflows.list_models import list_models, search_models, search_tags


def test_a_glob_matches_both_libraries() -> None:
    names = list_models("*densenet*")
    assert {"densenet121", "tv_densenet121", "torchvision/densenet121"} - set(names) == {"tv_densenet121"}
    assert all("densenet" in name for name in names)


def test_without_a_pattern_all_models_match() -> None:
    assert len(list_models()) >= 1_452
    assert len(set(list_models())) == len(list_models())


def test_a_plain_name_matches_the_model_of_each_library() -> None:
    assert list_models("resnet34") == ["resnet34", "torchvision/resnet34"]
    assert list_models("RESNET34") == list_models("resnet34")


def test_a_part_of_a_name_is_widened() -> None:
    assert widen("densenet") == "*densenet*"
    assert widen("resnet34") == "resnet34"
    assert widen("densenet*") == "densenet*"
    assert list_models("densenet") == list_models("*densenet*")


def test_a_pattern_with_a_slash_matches_the_source() -> None:
    assert list_models("torchvision/resnet*") == list_models("resnet*", source="torchvision")
    assert list_models("timm/resnet18") == ["resnet18"]
    # Without a slash the source is no part of the name.
    assert not any(name.startswith("torchvision/resnet") for name in list_models("t*"))


def test_a_pattern_with_a_dot_matches_the_tags() -> None:
    found = search("resnet50.a1*")
    assert [e.name for e in found] == ["resnet50"]
    assert any(tag.startswith("a1") for tag in found[0].tags)
    assert "torchvision/resnet50" in list_models("resnet50.imagenet1k_v2")


def test_character_classes_and_question_marks() -> None:
    assert list_models("resnet[15]0", source="timm") == list_models("resnet?0", source="timm") == ["resnet50"]


def test_natural_and_reverse_order() -> None:
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


def test_a_family_is_a_name_a_glob_or_a_part() -> None:
    assert {e.family for e in search(family="ResNet")} == {"resnet"}
    assert {e.family for e in search(family="RESNET*")} == {"resnet", "resnetv2"}
    assert {e.family for e in search(family="vision_trans")} >= {"vision_transformer", "vision_transformer_hybrid"}
    assert {e.source for e in search(family="resnet")} == {"timm", "torchvision"}
    assert search(family="no_such") == []


def test_the_license_of_any_published_weights_matches() -> None:
    free = search(license="apache")
    assert free
    assert all(any(p.license == "apache-2.0" for p in e.pretrained) for e in free)
    assert {p.weights.license for p in search_weights(license="cc-by-*")} == {"cc-by-nc-4.0", "cc-by-4.0"}
    assert all(e.pretrained for e in search(license="*"))  # weights without a stated license have none
    assert len(search(license="*")) < len(search(pretrained=True))


def test_minimum_params_and_maximum_gmacs() -> None:
    large = search(min_params="1B")
    assert large
    assert all(e.params is not None and e.params >= 10**9 for e in large)
    between = search(min_params="5M", max_params="6M")
    assert between
    assert all(e.params is not None and 5_000_000 <= e.params <= 6_000_000 for e in between)
    light = search(max_gmacs=0.3)
    assert light
    assert all(e.gmacs is not None and e.gmacs <= 0.3 for e in light)


def test_unknown_costs_match_no_filter_of_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.catalog.index import load_index

    index = load_index()
    monkeypatch.setitem(index._entries, "resnet18", replace(index["resnet18"], params=None, macs=None))
    assert "resnet18" in list_models("resnet*")
    for limit in ({"max_gmacs": 1e9}, {"max_params": 1e15}, {"min_params": 0}):
        assert "resnet18" not in list_models("resnet*", **limit)


@pytest.mark.parametrize(
    ("asked", "size", "fits"),
    [
        (224, (3, 224, 224), True),
        ("224", (1, 224, 224), True),
        ("224", (3, 224, 320), False),
        ("3x224x224", (3, 224, 224), True),
        ("3x224x224", (1, 224, 224), False),
        ("3×480×640", (3, 480, 640), True),
        ("160-256", (3, 160, 256), True),
        ("160-256", (3, 160, 257), False),
        ("-224", (3, 96, 224), True),
        ("384-", (3, 380, 384), False),
        ("384-", (3, 384, 1024), True),
    ],
)
def test_an_input_size_is_exact_or_a_range(asked: int | str, size: tuple[int, int, int], fits: bool) -> None:
    assert parse_sizes(asked)(size) is fits


def test_input_applies_to_the_model_and_with_tags_to_each_set_of_weights() -> None:
    assert all(e.input_size == (3, 384, 384) for e in search(input=384))
    assert "convnext_tiny" not in list_models(input=384)
    assert "convnext_tiny.fb_in22k_ft_in1k_384" in list_models(input=384, tags=True)
    assert all(p.weights.input_size[1] <= 160 for p in search_tags(input="-160"))


def test_one_result_per_tag() -> None:
    found = search_weights("resnet50")
    entry = found[0].entry
    assert [p.weights for p in found if p.entry.name == "resnet50"] == list(entry.pretrained)
    assert list_models("resnet50.a1*", tags=True) == ["resnet50.a1_in1k", "resnet50.a1h_in1k"]
    assert list_models("resnet50", tags=True, limit=2) == ["resnet50.a1_in1k", "resnet50.a1h_in1k"]
    assert list_models("resnet50.", tags=True) == list_models("*resnet50.*", tags=True)
    assert list_models("resnetblur18", tags=True) == []
    shown = found[0].to_dict()
    assert (shown["name"], shown["model"], shown["tag"]) == ("resnet50.a1_in1k", "resnet50", "a1_in1k")
    assert shown["params"] == 25_557_032
    assert len(search_weights()) == sum(len(e.pretrained) for e in search())


def test_an_unknown_filter_is_an_error() -> None:
    with pytest.raises(TypeError, match="licence"):
        list_models(licence="mit")  # type: ignore[call-arg]


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
def test_invalid_counts(text: str) -> None:
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
        ({"min_params": "-1"}, "25M"),
        ({"max_gmacs": 0}, "above 0"),
        ({"max_gmacs": float("nan")}, "above 0"),
        ({"input": "big"}, "160-256"),
        ({"input": "300-200"}, "160-256"),
        ({"input": "-"}, "160-256"),
        ({"input": "224x224"}, "3x224x224"),
    ],
)
def test_an_invalid_value_is_a_usage_error_with_the_valid_ones(wrong: dict[str, object], known: str) -> None:
    with pytest.raises(UsageError) as caught:
        search("*", **wrong)  # type: ignore[arg-type]
    assert known in caught.value.hint
    assert caught.value.exit_code == 2


def test_nearest_names_ignore_wildcards() -> None:
    assert "resnet34" in nearest_models("*resnet43*")
    assert nearest_models("*") == []
