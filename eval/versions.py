"""Versions of the packages on which pixels, features and numbers depend."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from dali_pipes.dali.version import dali_version

PACKAGES = ("oodino", "timm", "numpy", "scipy", "scikit-learn", "pillow")


def versions() -> dict[str, str]:
    """Return package -> version. A package that is not installed is left out."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # for example oodino itself, in a checkout that was not installed
    dali = dali_version()
    return {**found, "dali": dali} if dali else found
