from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from zoo.cache import kind_folder
from zoo.errors import UsageError
from zoo.preprocess import Preprocess
from zoo.training.autotune import precision
from zoo.training.autotune.precision import choose_precision
from zoo.training.autotune.timings import benchmark, load_timing, machine, save_timing
from zoo.training.autotune.workers import CpuLayout, benchmark_layouts, candidate_layouts, preserve_num_threads, threads
from zoo.training.inference import Normalize
from zoo.training.module_state import preserve_module_state

CPU = torch.device("cpu")
IMAGES = torch.randint(0, 256, (8, 8, 8, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
Step = Callable[[Tensor], Tensor]


def _net(convolutions: int = 2) -> nn.Module:
    middle = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(convolutions - 1)]
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), *middle, nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3)
    )


def _normalize() -> Normalize:
    return Normalize(Preprocess((3, 8, 8), (0.5,) * 3, (0.5,) * 3))


def _step(net: nn.Module, normalize: Normalize, wait: Callable[[Tensor, Tensor], float] | None = None) -> Step:
    def step(images: Tensor) -> Tensor:
        given = normalize(images)
        out = net(given)
        if wait is not None:  # processor time, as that is what is measured
            end = time.process_time() + wait(given, out)
            while time.process_time() < end:
                pass
        return nn.functional.cross_entropy(out.float(), torch.zeros(len(images), dtype=torch.int64))

    return step


def _choose(
    net: nn.Module, normalize: Normalize, step: Step, asked: str = "auto", form: str = "auto"
) -> precision.Step:
    with preserve_module_state(net):
        return choose_precision(asked, form, CPU, step, net, normalize, IMAGES, batch=32)


@pytest.mark.parametrize(("asked", "dtype"), [("bf16", torch.bfloat16), ("fp32", None)])
def test_a_requested_precision_is_not_measured(asked: str, dtype: torch.dtype | None) -> None:
    def never(_: Tensor) -> Tensor:
        raise AssertionError("nothing is left to measure")

    normalize = _normalize()
    chosen = _choose(_net(), normalize, never, asked, "contiguous")
    assert (chosen.dtype, chosen.memory_format, chosen.seconds) == (dtype, "contiguous", None)
    assert chosen.reason == f"{asked} (as asked), contiguous (as asked)"
    assert normalize(IMAGES).is_contiguous()


def test_fp16_is_refused_on_the_cpu() -> None:
    with pytest.raises(UsageError, match="fp16 does not train on the CPU"):
        _choose(_net(), _normalize(), lambda x: x.sum(), "fp16")


@pytest.mark.parametrize(
    ("fp32", "bf16", "name"), [(0.03, 0.003, "bf16"), (0.022, 0.02, "fp32"), (0.003, 0.03, "fp32")]
)
def test_bf16_only_if_a_quarter_faster(fp32: float, bf16: float, name: str) -> None:
    net, normalize = _net(1), _normalize()
    step = _step(net, normalize, lambda _, out: bf16 if out.dtype is torch.bfloat16 else fp32)
    chosen = _choose(net, normalize, step)
    assert chosen.precision == name
    assert "measured" in chosen.reason
    assert chosen.seconds is not None
    assert chosen.seconds * 32 > min(fp32, bf16), "seconds are of one image of a batch of 32"


@pytest.mark.parametrize(
    ("rows", "interleaved", "chosen"), [(0.003, 0.02, "contiguous"), (0.02, 0.022, "channels_last")]
)
def test_contiguous_only_if_a_quarter_faster(rows: float, interleaved: float, chosen: str) -> None:
    net, normalize = _net(), _normalize()
    step = _step(net, normalize, lambda given, _: rows if given.is_contiguous() else interleaved)
    assert _choose(net, normalize, step, "fp32").memory_format == chosen
    assert normalize(IMAGES).is_contiguous() == (chosen == "contiguous"), "it is laid out as was chosen"


def test_a_model_of_one_convolution_uses_channels_last() -> None:
    net, normalize = _net(1), _normalize()
    chosen = _choose(net, normalize, _step(net, normalize, lambda given, _: 0.02 * given.is_contiguous()), "fp32")
    assert (chosen.memory_format, chosen.seconds) == ("channels_last", None)


def test_measuring_changes_nothing() -> None:
    net, normalize = _net().train(), _normalize()
    seen: set[tuple[torch.dtype, bool]] = set()
    net[0].register_forward_hook(lambda m, i, o: seen.add((o.dtype, i[0].is_contiguous())))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    count = torch.get_num_threads()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    chosen = _choose(net, normalize, _step(net, normalize))
    assert torch.equal(torch.rand(3), expected)
    assert {(torch.float32, False), (torch.bfloat16, False), (chosen.dtype or torch.float32, True)} <= seen
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert torch.get_num_threads() == count


def test_benchmark_drops_slow_candidates() -> None:
    runs: dict[str, int] = {}

    def candidate(name: str, seconds: float) -> None:
        runs[name] = runs.get(name, 0) + 1
        time.sleep(seconds)

    best = benchmark(
        {n: partial(candidate, n, s) for n, s in (("a", 0.26), ("b", 0.3), ("c", 0.6))}, seconds=1.3, rounds=2
    )
    assert min(best, key=lambda k: best[k]) == "a"
    assert runs == {"a": 2, "b": 2, "c": 1}
    quick = benchmark({n: partial(candidate, n + "'", s) for n, s in (("a", 0.01), ("b", 0.04))}, seconds=1.0, rounds=3)
    assert runs["b'"] == 2, "a first short run does not decide about a candidate"
    assert 0.01 <= quick["a"] < quick["b"]


def test_timings_are_cached_by_their_key() -> None:
    key = {"model": "m", "batch": 32}
    assert load_timing("test", key) is None
    save_timing("test", key, {"precision": "bf16"})
    assert load_timing("test", {"batch": 32, "model": "m"}) == {"precision": "bf16"}
    assert load_timing("test", {**key, "batch": 16}) is None
    assert load_timing("other", key) is None


@pytest.mark.parametrize("contents", ["", "{", "[]", '{"key": 1}', '{"value": {"precision": "bf16"}}'])
def test_a_damaged_timing_is_none(contents: str) -> None:
    key = {"model": "damaged"}
    save_timing("test", key, {"precision": "bf16"})
    [file] = [p for p in (kind_folder("timings")).glob("test-*") if "damaged" in p.read_text()]
    assert json.loads(file.read_text())["key"]["model"] == "damaged", "a person can read what it is"
    file.write_text(contents)
    assert load_timing("test", key) is None
    save_timing("test", key, {"precision": "fp32"})
    assert load_timing("test", key) == {"precision": "fp32"}


def test_an_unwritable_cache_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    save_timing("test", {}, {"a": 1})
    assert load_timing("test", {}) is None


def test_the_machine_is_part_of_the_key() -> None:
    with preserve_num_threads():
        one = machine(CPU)
        threads(one["threads"] + 1)
        assert machine(CPU) != one
    assert machine(CPU) == one


def test_no_alternatives_without_shared_cores() -> None:
    assert candidate_layouts(CpuLayout(2, 0), 2, threads=None, workers=None) == [CpuLayout(2, 0)]
    assert candidate_layouts(CpuLayout(8, 8), 16, threads=None, workers=None) == [CpuLayout(8, 8)]


def test_candidate_layouts() -> None:
    assert candidate_layouts(CpuLayout(2, 2), 2, threads=None, workers=None) == [
        CpuLayout(2, 2),
        CpuLayout(1, 1),
        CpuLayout(2, 0),
    ]
    assert candidate_layouts(CpuLayout(16, 8), 16, threads=None, workers=None) == [
        CpuLayout(16, 8), CpuLayout(8, 8), CpuLayout(12, 4), CpuLayout(16, 0)
    ]  # fmt: skip
    assert candidate_layouts(CpuLayout(2, 2), 2, threads=2, workers=None) == [
        CpuLayout(2, 2),
        CpuLayout(2, 1),
        CpuLayout(2, 0),
    ]
    assert candidate_layouts(CpuLayout(2, 2), 2, threads=None, workers=2) == [CpuLayout(2, 2), CpuLayout(1, 2)]
    assert candidate_layouts(CpuLayout(2, 2), 2, threads=2, workers=2) == [CpuLayout(2, 2)]


def test_layouts_are_timed_with_their_threads_and_workers() -> None:
    class Loads:
        def __init__(self, workers: int) -> None:
            self.workers = workers

        def __len__(self) -> int:
            return 10

        def __iter__(self):  # type: ignore[no-untyped-def]
            for _ in range(10):
                time.sleep(0.02 if self.workers else 0.002)
                yield torch.zeros(4, 1), torch.zeros(4)

    used = set()
    speeds = benchmark_layouts(
        [CpuLayout(2, 2), CpuLayout(1, 0)], Loads, lambda images: used.add(torch.get_num_threads())
    )
    assert speeds[CpuLayout(1, 0)] > 3 * speeds[CpuLayout(2, 2)]
    assert used == {1, 2}
