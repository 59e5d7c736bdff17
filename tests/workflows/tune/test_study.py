"""The study and its file, with objectives that cost nothing."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import DataError, UsageError
from zoo.workflows.tune.search_space import Space, read_space
from zoo.workflows.tune.study import Study, open_study

SPACE, _ = read_space({"x": {"low": 0.0, "high": 1.0}, "kind": ["a", "b"], "n": {"low": 1, "high": 9, "int": True}})


def opened(path: Path = Path("study.db"), space: Space = SPACE, **other: Any) -> AbstractContextManager[Study]:
    return open_study(
        path, space, **{"higher_is_better": True, "seed": 0, "prune": True, "settings_record": {}, **other}
    )


def worth(values: dict[str, Any]) -> float:
    return -((values["x"] - 0.3) ** 2) + (0.1 if values["kind"] == "b" else 0.0)


def search(study: Study, trials: int) -> list[dict[str, Any]]:
    tried = []
    for _ in range(trials):
        trial = study.ask()
        trial.report_and_should_prune(worth(trial.values), 1)
        trial.finished(worth(trial.values), 0.1)
        tried.append(trial.values)
    return tried


def test_the_same_seed_gives_the_same_proposals_which_improve(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as study:
        first = search(study, 18)
        shares = study.importance(0)
        assert set(shares) == {"x", "kind", "n"}
        assert min(shares, key=lambda key: shares[key]) == "n"
    with opened(tmp_path / "b.db") as study:
        assert search(study, 13) == first[:13]
    with opened(tmp_path / "c.db", seed=1) as study:
        assert search(study, 3) != first[:3]
    assert sum(map(worth, first[12:])) / 6 > sum(map(worth, first[:10])) / 10


def test_a_continued_study_makes_other_proposals() -> None:
    with opened() as study:
        first = search(study, 3)
    with opened() as study:
        assert [r.values for r in study.records()] == first
        second = search(study, 3)
        assert [r.number for r in study.records()] == [0, 1, 2, 3, 4, 5]
    assert not any(v in first for v in second)


def test_trials_of_a_killed_process_are_repeated(tmp_path: Path) -> None:
    script = """
        import os, signal
        from pathlib import Path
        from zoo.workflows.tune.search_space import read_space
        from zoo.workflows.tune.study import open_study
        space, _ = read_space({"x": {"low": 0.0, "high": 1.0}, "kind": ["a", "b"]})
        options = {"higher_is_better": True, "seed": 0, "prune": True, "settings_record": {}}
        with open_study(Path("study.db"), space, **options) as study:
            study.ask().finished(0.5, 1.0)
            trial = study.ask()
            trial.report_and_should_prune(0.1, 1)
            print(trial.values["x"], flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    space, _ = read_space({"x": {"low": 0.0, "high": 1.0}, "kind": ["a", "b"]})
    with opened(space=space) as study:
        assert [r.state for r in study.records()] == ["finished", "interrupted"]
        assert study.recover() == [1]
        assert study.recover() == []
        trial = study.ask()
        assert trial.number == 2
        assert trial.values == study.records()[1].values
        assert trial.values["x"] == float(killed.stdout)
        trial.failed("for this reason", 2.0)
        assert [(r.state, r.reason) for r in study.records()] == [
            ("finished", ""),
            ("interrupted", ""),
            ("failed", "for this reason"),
        ]
    assert killed.stderr == ""


@pytest.fixture
def five_good() -> Iterator[Study]:
    with opened() as study:
        for _ in range(5):  # the median pruner waits for so many
            trial = study.ask()
            assert not any([trial.report_and_should_prune(0.9, 1), trial.report_and_should_prune(0.95, 2)])
            trial.finished(0.95, 1.0)
        yield study


def test_a_trial_below_the_median_is_pruned(five_good: Study) -> None:
    trial = five_good.ask()
    assert trial.report_and_should_prune(0.5, 1)
    trial.pruned(0.3)
    record = five_good.records()[-1]
    assert (record.state, record.value, record.epochs, record.seconds) == ("pruned", 0.5, 1, 0.3)
    assert not five_good.ask().report_and_should_prune(0.91, 1)


def test_pruning_follows_the_direction_and_can_be_left_out(five_good: Study, tmp_path: Path) -> None:
    with opened(tmp_path / "low.db", higher_is_better=False) as study:
        search(study, 5)
        assert not study.ask().report_and_should_prune(-9.0, 1)
        assert study.ask().report_and_should_prune(9.0, 1)
    with opened(prune=False) as study:
        assert not study.ask().report_and_should_prune(0.0, 1)


def test_changed_settings_are_an_error_that_names_them() -> None:
    with opened(settings_record={"train.epochs": 5, "search of x": {"low": 0}}):
        pass
    with opened(settings_record={"train.epochs": 5, "search of x": {"low": 0}}):
        pass
    with pytest.raises(UsageError, match=r"train\.epochs: 5 -> 6") as e, opened(settings_record={"train.epochs": 6}):
        pass
    assert "search of x" in e.value.message


def test_a_finite_space_is_searched_completely() -> None:
    space, _ = read_space({"freeze": ["none", None], "loss": [{"name": "focal"}, {"name": "mse"}], "n": [1, 2]})
    with opened(space=space) as study:
        assert study.enqueue_all(7) is None
        assert study.enqueue_all(8) == 8
        seen = [study.ask() for _ in range(3)]
        for trial in seen:
            trial.finished(1.0, 0.0)
    with opened(space=space) as study:
        assert study.enqueue_all(8) == 8
        seen += [study.ask() for _ in range(5)]
    assert len({json.dumps(t.values) for t in seen}) == 8
    assert {"name": "mse"} in [t.values["loss"] for t in seen]


def test_importance_needs_different_values() -> None:
    with opened() as study:
        search(study, 5)
        assert "at least" in study.importance(0)
    with opened(Path("flat.db")) as study:
        for _ in range(8):
            study.ask().finished(1.0, 0.0)
        assert "same value" in study.importance(0)


def test_a_file_that_is_not_a_study(tmp_path: Path) -> None:
    Path("study.db").write_bytes(b"this is not a database at all " * 50)
    with pytest.raises(DataError, match=r"cannot read .*study\.db as an Optuna study"), opened():
        pass
    sqlite3.connect("other.db").execute("create table trials (x)")
    with pytest.raises(DataError, match="as an Optuna study"), opened(Path("other.db")):
        pass


def test_a_path_with_special_characters(tmp_path: Path) -> None:
    folder = tmp_path / "a b?c#d%20é"
    folder.mkdir()
    with opened(folder / "study.db") as study:
        search(study, 1)
    assert (folder / "study.db").is_file()
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]
