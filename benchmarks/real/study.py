"""Fine-tuning strategies of zoo and its peers on real ImageNet weights and real images.

    python benchmarks/real/build.py FOLDER
    python benchmarks/real/study.py run FOLDER [--half calibrate] [--jobs 2] [--fastai PYTHON]
    python benchmarks/real/study.py report FOLDER [--half calibrate]

split.yaml says which sets are for calibration and which for evaluation, and has the defaults of --backbones, --sizes,
--seeds and --img-size. Each strategy is trained on a part of FOLDER/data/SET/train and measured by its top-1 accuracy
on FOLDER/data/SET/test, of which it sees nothing before. Results are lines of FOLDER/results.jsonl: what is there is
not trained again, so a run can be interrupted, and a later run adds to it. With --threads 1 (the default) and --jobs 2,
two cells run side by side; CPU seconds are of each training alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cells import Cell, Results, make_cells, make_folder, weights_file
from report import print_report
from ruamel.yaml import YAML
from strategies import STRATEGIES

SPLIT = YAML(typ="safe").load(Path(__file__).with_name("split.yaml"))


def run_cell(root: Path, cell: Cell, names: list[str], results: Results, options: argparse.Namespace) -> None:
    """Train the strategies that have no result yet."""
    new: dict[str, list[str]] = {}
    for name in names:
        if not results.is_current(cell, STRATEGIES[name]):
            python = options.fastai if STRATEGIES[name].runner == "fastai" else sys.executable
            new.setdefault(python, []).append(name)
    for python, some in new.items():
        start_worker(root, cell, some, python, results, options.threads)


def start_worker(root: Path, cell: Cell, names: list[str], python: str, results: Results, num_threads: int) -> None:
    """One process for one cell; its results are added and printed as they come."""
    work = root / "work" / str(cell).replace(" ", "_")
    make_folder(cell, root / "data", work / "train")
    job = {
        "cell": asdict(cell),
        "train": str(work / "train"),
        "test": str(root / "data" / cell.set / "test"),
        "weights": str(weights_file(root, cell.backbone)),
        "work": str(work / "run"),
        "strategies": {name: asdict(STRATEGIES[name]) for name in names},
    }
    threads = {name: str(num_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    with (work / "log.txt").open("w+", encoding="utf-8") as log, subprocess.Popen(
        [python, str(Path(__file__).with_name("worker.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **threads},
    ) as worker:  # fmt: skip
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(job))
        worker.stdin.close()
        for text in worker.stdout:
            found = json.loads(text)
            name = found.pop("strategy")
            if "error" in found:
                print(f"{cell}  {name} failed: {found['error']}", flush=True)
                continue
            results.add(cell, name, STRATEGIES[name], found)
            print(f"{cell}  {name} {100 * found['top1']:.1f} % in {found['cpu_s']:.0f} CPU s", flush=True)
    if worker.returncode:
        print(f"{cell}  stopped with {worker.returncode}, see {work / 'log.txt'}", flush=True)
        return
    for file in sorted(work.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    work.rmdir()


def run(root: Path, cells: list[Cell], options: argparse.Namespace) -> None:
    results = Results(root)
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in [pool.submit(run_cell, root, cell, options.strategies, results, options) for cell in cells]:
            done.result()


def cells_of(root: Path, options: argparse.Namespace) -> Iterator[Cell]:
    halves = [*SPLIT["halves"]] if options.half is None else [options.half]
    sets = options.sets or [name for half in halves for names in SPLIT["halves"][half].values() for name in names]
    return make_cells(
        root / "data",
        sets,
        options.backbones or SPLIT["backbones"],
        options.sizes or SPLIT["sizes"],
        SPLIT["seeds"] if options.seeds is None else options.seeds,
        options.img_size or SPLIT["img_size"],
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("folder", type=Path, help="folder that build.py has filled")
    parser.add_argument("--half", choices=[*SPLIT["halves"]], help="only the sets of this half of split.yaml")
    parser.add_argument("--sets", nargs="+", metavar="SET")
    parser.add_argument("--backbones", nargs="+", metavar="MODEL", help="timm models with a file in FOLDER/weights")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="N", help="numbers of training images")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED")
    parser.add_argument("--img-size", type=int, metavar="PIXELS")
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), metavar="NAME", help=", ".join(STRATEGIES))
    parser.add_argument("--jobs", type=int, default=1, help="cells that run side by side")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each")
    parser.add_argument("--fastai", metavar="PYTHON", help="interpreter that can import fastai and timm")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    with_fastai = [name for name, s in STRATEGIES.items() if s.runner == "fastai"]
    can_run_all = options.what == "report" or options.fastai
    if options.strategies is None:
        options.strategies = [name for name in STRATEGIES if can_run_all or name not in with_fastai]
    elif not can_run_all and set(options.strategies) & set(with_fastai):
        parser.error("fastai needs --fastai PYTHON, an interpreter that can import it")
    return options


def main() -> None:
    options = parse()
    root: Path = options.folder
    if not (root / "data" / "sets.json").is_file():
        sys.exit(f"{root} has no image sets\nbuild them with build.py {root}")
    cells = list(cells_of(root, options))
    missing = {c.backbone for c in cells if not weights_file(root, c.backbone).is_file()}
    if missing:
        sys.exit(f"no weights of {', '.join(sorted(missing))} in {root / 'weights'}\nbuild them with build.py {root}")
    if options.what == "run":
        run(root, cells, options)
        return
    results = Results(root)
    found: dict[Cell, dict[str, dict[str, Any]]] = {}
    for cell in cells:
        lines = {name: results.get(cell, STRATEGIES[name]) for name in options.strategies}
        found[cell] = {name: line for name, line in lines.items() if line is not None}
    print_report(found)


if __name__ == "__main__":
    main()
