"""The installed version of DALI."""

from __future__ import annotations

from importlib.metadata import distributions

PACKAGE = "nvidia-dali"
"""The prefix of the names of DALI's packages. There is one package per version of CUDA."""


def dali_version() -> str:
    """Return DALI's version without importing DALI; "" if DALI is not installed.

    The version matters, because other versions may round the pixels of views differently.
    """
    found = (one.version for one in distributions() if (one.name or "").startswith(PACKAGE))
    return next(found, "")
