"""The machine and the versions that the figures depend on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np
import PIL
import webdataset
from PIL import features

from shards.terminal.environment import usable_cpus

CPUS = usable_cpus()


def machine() -> dict[str, object]:
    """Return facts by name: the processor, the system's load average, and versions of packages."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((li.split(": ")[1] for li in info.splitlines() if "model name" in li), "")
    return {
        "cpu": model or platform.processor(),
        "cpus": CPUS,
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "pillow": PIL.__version__,
        "libjpeg_turbo": features.version("libjpeg_turbo"),
        "numpy": np.__version__,
        "webdataset": webdataset.__version__,
    }
