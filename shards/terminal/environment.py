"""The environment of a process: variables that control a run, and the number of CPUs.

A variable is checked in the same way as an option. An empty variable counts as not set.
"""

from __future__ import annotations

import os
import re

from shards.errors import UserError

WHOLE = re.compile(r"[0-9]{1,9}")


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def text(name: str, default: str | None = "", hint: str = "") -> str:
    """Return the value of a variable, or `default`.

    Raises:
        UserError: The variable is not set, and `default` is None. The message ends with `hint`.
    """
    value = os.environ.get(name) or default
    if value is None:
        raise UserError(f"{name} is not set{hint and f' ({hint})'}")
    return value


def number(
    name: str, *, least: int, most: int | None = None, default: int | None = None, hint: str = ""
) -> int:
    """Return the value of a variable that is a whole number, or `default`.

    Raises:
        UserError: The value is not a number from `least` to `most`; or the variable is not set, and
            `default` is None. The message ends with `hint`.
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
    """Refuse values of variables that libraries would silently misread.

    Raises:
        UserError: A variable has such a value; the message says what was expected.
    """
    # OpenMP ignores a value that it cannot read, and takes all cores.
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads and not all(re.fullmatch(r" *0*[1-9][0-9]{0,8} *", n) for n in threads.split(",")):
        raise UserError(
            f"OMP_NUM_THREADS is {threads!r}, expected a whole number of at least 1, or several "
            "with commas"
        )
    # A table of 0 columns would be empty, so 0 counts as not set.
    if not number("COLUMNS", least=0, default=0):
        os.environ.pop("COLUMNS", None)
    # Python takes the first that is set. If it cannot be written, Python takes another folder.
    for name in ("TMPDIR", "TEMP", "TMP"):
        folder = os.environ.get(name, "")
        if folder:
            if not (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
                raise UserError(f"{name} is {folder!r}, expected a folder that can be written")
            break
