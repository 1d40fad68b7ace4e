"""What the machine tells a process: environment variables that steer a run, and CPUs.

A variable is checked as an option is. One that is empty counts as one that is not set.
"""

from __future__ import annotations

import os
import re

from shards.errors import UserError

WHOLE = re.compile(r"[0-9]{1,9}")


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def text(name: str, default: str | None = "", hint: str = "") -> str:
    """The value of a variable, or `default`.

    Raises:
        UserError: it is not set, and `default` is None. The message ends with `hint`.
    """
    value = os.environ.get(name) or default
    if value is None:
        raise UserError(f"{name} is not set{hint and f' ({hint})'}")
    return value


def number(
    name: str, *, least: int, most: int | None = None, default: int | None = None, hint: str = ""
) -> int:
    """The value of a variable that is a whole number, or `default`.

    Raises:
        UserError: it is something else, or less than `least`, or more than `most`; or it is not
            set, and `default` is None. The message ends with `hint`.
    """
    value = os.environ.get(name, "")
    if not value and default is not None:
        return default
    if not WHOLE.fullmatch(value) or int(value) < least or (most is not None and int(value) > most):
        said = f"is {value!r}" if value else "is not set"
        bounds = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise UserError(f"{name} {said}, expected a whole number {bounds}{hint and f' ({hint})'}")
    return int(value)


def check() -> None:
    """Refuse what the libraries below read, and take in silence for something else.

    Raises:
        UserError: names the variable, its value and what was expected.
    """
    # What OpenMP cannot read it passes over, and takes all cores.
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads and not all(re.fullmatch(r" *0*[1-9][0-9]{0,8} *", n) for n in threads.split(",")):
        raise UserError(
            f"OMP_NUM_THREADS is {threads!r}, expected a whole number of at least 1, or several "
            "with commas"
        )
    # Of 0 columns a table has none; of what is no number nothing is thought.
    if not number("COLUMNS", least=0, default=0):
        os.environ.pop("COLUMNS", None)
    # The first that is set counts. Where it cannot be written, Python takes another folder.
    for name in ("TMPDIR", "TEMP", "TMP"):
        folder = os.environ.get(name, "")
        if folder:
            if not (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
                raise UserError(f"{name} is {folder!r}, expected a folder that can be written")
            break
