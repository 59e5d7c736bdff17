"""Downloads from the package indexes, unpacked into a folder; nothing is installed and no script of a package is run.

pip, npm and apt-get must be able to reach their indexes; npm and node are needed for the image sets only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

RENDERER = "@resvg/resvg-js@2.6.2"  # MPL-2.0


@dataclass(frozen=True)
class Packages:
    """Unpacked packages.

    Attributes:
        root: the folder with wheels/, npm/ and deb/.
    """

    root: Path

    @property
    def wheels(self) -> Path:
        """What the wheels contain, side by side."""
        return self.root / "wheels"

    @property
    def share(self) -> Path:
        """/usr/share of the Debian packages."""
        return self.root / "deb" / "usr" / "share"

    def npm(self, name: str) -> Path:
        """The folder of an npm package."""
        return self.root / "npm" / "node_modules" / name

    def get_wheels(self, requirements: Iterable[str]) -> None:
        """Download wheels such as `name==1.0`, without their dependencies."""
        for requirement in requirements:
            with tempfile.TemporaryDirectory(dir=self.root) as folder:
                _run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, requirement)
                for wheel in Path(folder).glob("*.whl"):
                    with zipfile.ZipFile(wheel) as archive:
                        archive.extractall(self.wheels)

    def get_npm(self, names: Iterable[str]) -> None:
        """Download npm packages such as `name@1.0`, with their dependencies."""
        folder = self.root / "npm"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}', encoding="utf-8")
        _run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", *names, cwd=folder)

    def get_deb(self, names: Iterable[str]) -> None:
        """Download Debian packages in the version of this release."""
        for name in names:
            with tempfile.TemporaryDirectory(dir=self.root) as folder:
                _run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", name, cwd=Path(folder))
                (file,) = Path(folder).glob("*.deb")
                _run("dpkg", "-x", str(file), str(self.root / "deb"))

    def render(self, drawings: Iterable[tuple[str | bytes, int]]) -> list[Image.Image]:
        """Render SVG drawings.

        Args:
            drawings: the SVG text, or the bytes of a .svg or .svgz file, and the width in pixels.
        """
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            jobs, files = [], []
            for number, (svg, width) in enumerate(drawings):
                file = Path(folder, f"{number}.svg")
                file.write_bytes(svg.encode() if isinstance(svg, str) else svg)
                files.append(file.with_suffix(".png"))
                jobs.append({"svg": str(file), "png": str(files[-1]), "width": width})
            manifest = Path(folder, "jobs.json")
            manifest.write_text(json.dumps(jobs), encoding="utf-8")
            script = Path(__file__).with_name("render.js")
            _run("node", str(script), str(self.npm("@resvg/resvg-js")), str(manifest))
            return [Image.open(BytesIO(file.read_bytes())) for file in files]


def _run(*command: str, cwd: Path | None = None) -> None:
    """Run a command; ends the program with its error if it fails."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not installed\ninstall it: packages are downloaded with pip, npm and apt-get")
    if done.returncode:
        reason = done.stderr.strip()[:500]
        sys.exit(
            f"{command[0]} failed: {reason}\nthe arguments were {command[1:]}; the package indexes must be reachable"
        )
