"""The installed version of DALI."""

from __future__ import annotations

from importlib.metadata import distributions

PACKAGE = "nvidia-dali"
"""First part of the names of DALI's packages; there is one package for each version of CUDA."""


def dali_version() -> str:
    """Return DALI's version without importing DALI; "" if it is not installed.

    Other versions may round views differently.
    """
    found = (one.version for one in distributions() if (one.name or "").startswith(PACKAGE))
    return next(found, "")
