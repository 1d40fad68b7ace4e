"""The environment of a process: environment variables, and the number of CPUs.

The value of a variable is checked as strictly as an option. An empty variable counts as not set.
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
    """Return the value of an environment variable, or `default` if the variable is not set.

    Args:
        name: The name of the variable.
        default: The value to use if the variable is not set. None means that it must be set.
        hint: A text to add to the error message.

    Raises:
        UserError: The variable is not set, and `default` is None.
    """
    value = os.environ.get(name) or default
    if value is None:
        raise UserError(f"{name} is not set{hint and f' ({hint})'}")
    return value


def number(
    name: str, *, least: int, most: int | None = None, default: int | None = None, hint: str = ""
) -> int:
    """Return the whole number in an environment variable, or `default` if it is not set.

    Args:
        name: The name of the variable.
        least: The smallest valid number.
        most: The largest valid number. None means that there is no limit.
        default: The value to use if the variable is not set. None means that it must be set.
        hint: A text to add to the error message.

    Raises:
        UserError: The value is not a whole number from `least` to `most`, or the variable is not
            set and `default` is None.
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
    """Check environment variables that libraries would silently misread if they are wrong.

    COLUMNS=0 is removed from the environment, because tables would have no columns.

    Raises:
        UserError: OMP_NUM_THREADS, COLUMNS, or the folder for temporary files has a wrong value.
            The message says what is expected.
    """
    # OpenMP ignores a value that it cannot parse, and then uses all cores.
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads and not all(re.fullmatch(r" *0*[1-9][0-9]{0,8} *", n) for n in threads.split(",")):
        raise UserError(
            f"OMP_NUM_THREADS is {threads!r}, expected a whole number of at least 1, or several "
            "with commas"
        )
    # A table of 0 columns would be empty, so 0 counts as not set.
    if not number("COLUMNS", least=0, default=0):
        os.environ.pop("COLUMNS", None)
    # Python uses the first of these variables that is set. If its folder cannot be written, Python
    # silently uses another folder.
    for name in ("TMPDIR", "TEMP", "TMP"):
        folder = os.environ.get(name, "")
        if folder:
            if not (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
                raise UserError(f"{name} is {folder!r}, expected a folder that can be written")
            break
