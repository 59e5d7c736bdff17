"""Autotuning at the start of a run: printed, recorded, cached, and overridden by flags and recipes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.run import Run
from zoo.training.autotune.precision import PrecisionChoice
from zoo.training.autotune.workers import CpuLayout
from zoo.workflows.finetune import autotune
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.finetune.run import finetune, resume


@pytest.fixture(autouse=True)
def _empty_timing_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _prepare(data: Path, **options: Any) -> Any:
    return build_session(make_recipe("zoo_tiny", data=data, **options))


def _forbid_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr("zoo.training.autotune.precision.benchmark", never)
    monkeypatch.setattr(autotune, "benchmark_layouts", never)


def test_the_choice_is_printed_recorded_and_repeated(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finetune("zoo_tiny", data=small, epochs=1, progress=False)
    chosen = run.info()["execution"]
    assert chosen["text"].startswith(f"execution: {chosen['precision']} (")
    recipe = make_recipe(recipe=run.path)
    assert recipe.train.amp_dtype == chosen["precision"] == run.info()["precision"]
    assert recipe.execution.memory_format == chosen["memory_format"]
    assert recipe.execution.compile == "off"
    assert recipe.execution.threads == chosen["threads"] == torch.get_num_threads()
    assert recipe.data.workers == chosen["workers"] == 0
    _forbid_benchmarks(monkeypatch)
    again = build_session(recipe)
    assert again.recipe.execution == recipe.execution
    assert "as asked" in again.execution.text


def test_the_next_similar_run_measures_nothing(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _prepare(small)
    _forbid_benchmarks(monkeypatch)
    second = _prepare(small, lr=1e-4, seed=3)
    assert second.execution == first.execution
    assert second.execution.text in second.notes
    with pytest.raises(AssertionError, match="measured again"):
        _prepare(small, batch_size=8)


def test_the_cached_choice_is_used(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = PrecisionChoice("bf16", "contiguous", 0.01, "bf16 (for a test), contiguous")
    monkeypatch.setattr(autotune, "choose_precision", lambda *_, **__: found)
    session = _prepare(small)
    assert session.trainer.amp_dtype is torch.bfloat16
    assert session.trainer.accelerator.mixed_precision == "bf16"
    images = next(iter(session.train))[0]
    assert not images.is_contiguous()
    assert session.trainer.normalize(images).is_contiguous()
    assert session.execution.text.startswith("execution: bf16 (for a test), contiguous, not compiled")
    assert session.execution.text in session.notes
    _forbid_benchmarks(monkeypatch)
    assert _prepare(small).execution.memory_format == "contiguous"


def test_flags_override_autotuning(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forbid_benchmarks(monkeypatch)
    before = torch.get_num_threads()
    run = finetune(
        "zoo_tiny", data=small, epochs=1, amp_dtype="bf16", channels_last=False, compile=False, threads=before + 1,
        workers=1, progress=False,
    )  # fmt: skip
    chosen = run.info()["execution"]
    assert chosen["text"] == (
        f"execution: bf16 (as asked), contiguous (as asked), not compiled (as asked), {before + 1} threads, 1 worker"
    )
    assert run.info()["threads"] == before + 1
    assert torch.get_num_threads() == before, "the program's own number is restored"


def test_a_missing_compiler_is_reported_and_the_run_continues(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    with config.patch({"cpp.cxx": ("/nowhere/c++",)}):
        run = finetune("zoo_tiny", data=small, epochs=1, compile=True, amp=False, progress=False)
    chosen = run.info()["execution"]
    assert run.status == "finished"
    assert not chosen["compile"]
    assert ", not compiled (" in chosen["text"]
    assert "ompiler" in chosen["text"]
    assert "compile: off" in run.recipe_file.read_text()


@pytest.mark.slow
def test_a_compiled_run_is_resumed_compiled(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = finetune("zoo_tiny", data=small, epochs=2, compile=True, batch_size=16, progress=False)
    assert whole.info()["execution"]["compile"], whole.info()["execution"]["text"]
    assert make_recipe(recipe=whole.path).execution.compile == "on"
    epochs = 0

    def stop(row: dict[str, Any]) -> None:
        nonlocal epochs
        epochs += 1
        raise KeyboardInterrupt

    with pytest.raises(Exception, match="interrupted"):
        finetune(
            "zoo_tiny", data=small, epochs=2, compile=True, batch_size=16, progress=False, output_dir="b", on_epoch=stop
        )
    broken = resume("b", progress=False)
    ours, theirs = Run(broken.path).weights(), whole.weights()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_compiling_is_tried_only_in_long_runs(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def gain(*args: Any, compare: bool) -> autotune.CompileTiming:
        tried.append(compare)
        args[1].compile()
        return autotune.CompileTiming(compile_seconds=10.0, eager=0.2, compiled=0.1)

    monkeypatch.setattr(autotune, "_benchmark_compile", gain)
    found = PrecisionChoice("fp32", "channels_last", 0.05, "fp32")
    monkeypatch.setattr(autotune, "choose_precision", lambda *_, **__: found)
    # Compiling saves 0.1 s per step; an epoch has 3 steps.
    assert "the run is too short" in _prepare(small, epochs=10).execution.text
    assert not tried
    long = _prepare(small, epochs=2000)
    assert long.execution.compile
    assert long.trainer.compiled is not None
    assert "compiled (measured 2.00x as fast, 10 s to compile)" in long.execution.text
    short = _prepare(small, epochs=10)
    assert not short.execution.compile
    assert short.trainer.compiled is None
    assert tried == [True], "the speedup is in the timing cache"


@pytest.mark.parametrize(("speed", "expected"), [(1.1, CpuLayout(2, 2)), (1.5, CpuLayout(1, 1))])
def test_threads_and_workers(small: Path, monkeypatch: pytest.MonkeyPatch, speed: float, expected: CpuLayout) -> None:
    monkeypatch.setattr(autotune.dist_env, "cores", lambda: 2)
    monkeypatch.setattr("zoo.workflows.finetune.validate.auto_workers", lambda source: 2)
    monkeypatch.setattr(autotune, "_loading_seconds", lambda open_loader: 1.0)
    speeds = {CpuLayout(2, 2): 1.0, CpuLayout(1, 1): speed, CpuLayout(2, 0): 0.9}
    monkeypatch.setattr(
        autotune, "benchmark_layouts", lambda candidates, *_: {candidate: speeds[candidate] for candidate in candidates}
    )
    with autotune.preserve_num_threads():
        autotune.threads(2)
        session = _prepare(small)
        assert torch.get_num_threads() == expected.threads
    assert CpuLayout(session.execution.threads, session.execution.workers) == expected
    assert session.recipe.data.workers == session.train._loader.num_workers == expected.workers  # type: ignore[union-attr]
    assert ("measured 1.5x as fast as 2 threads, 2 workers" in session.execution.text) == (speed > 1.25)


def test_light_loading_is_not_measured(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune.dist_env, "cores", lambda: 2)
    monkeypatch.setattr("zoo.workflows.finetune.validate.auto_workers", lambda source: 2)
    monkeypatch.setattr(autotune, "_loading_seconds", lambda open_loader: 1e-9)
    monkeypatch.setattr(autotune, "benchmark_layouts", lambda *_: pytest.fail("measured"))
    assert _prepare(small).execution.workers == 2


def test_with_a_feature_cache_nothing_is_compiled_and_no_layout_is_measured(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune, "benchmark_layouts", lambda *_: pytest.fail("measured"))
    session = _prepare(
        small, freeze="backbone", compile=True, settings={"train.feature_cache": "on", "augment.name": "none"}
    )
    assert session.feature_cache is not None
    assert "not compiled (the run trains on cached features)" in session.execution.text
    assert session.trainer.compiled is None
