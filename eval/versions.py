"""Versions of what makes pixels, features and numbers."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, distributions, version

import torch

PACKAGES = ("oodino", "timm", "numpy", "scipy", "scikit-learn", "pillow")
DALI = "nvidia-dali"
"""How the names of its packages begin; there is one for each version of CUDA."""


def versions() -> dict[str, str]:
    """Package -> its version; those that are not installed are left out."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # oodino itself, in a checkout that was not installed
    dali = dali_version()
    return {**found, "dali": dali} if dali else found


def dali_version() -> str:
    """DALI's, which is not imported for it; "" where it is not installed."""
    found = (one.version for one in distributions() if (one.name or "").startswith(DALI))
    return next(found, "")
