"""The command lines of the project: parsing, and the end of the process with a message."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, get_args, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from shards.errors import UserError
from shards.terminal import environment, mistakes, printing


def parse(kind: Any, argv: Sequence[str] | None, **options: Any) -> Any:
    """Fill `kind`, a dataclass, from the command line by tyro, which also gets `options`.

    Raises:
        UserError: An option is unknown or missing, or has a value that `kind` cannot take, such as
            an empty path.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with _PATHS, contextlib.redirect_stderr(io.StringIO()):
            value, unknown = tyro.cli(kind, args=argv, return_unknown_args=True, **options)
    except SystemExit as end:
        if not end.code:  # --help
            raise
        raise UserError(mistakes.explain(kind, argv, **options)) from None
    if unknown:
        raise UserError(mistakes.unknown(unknown[0], kind, argv, **options))
    _refuse_empty_paths(value)
    return value


class _EmptyPath(type(Path())):  # type: ignore[misc]
    """The path that was given as "". `Path("")` would silently be the current folder."""


_PATHS = ConstructorRegistry()


@_PATHS.primitive_rule
def _path_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: Path(words[0]) if words[0] else _EmptyPath(),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def _refuse_empty_paths(config: Any, prefix: str = "") -> None:
    """Refuse a path that was given as an empty text, in a dataclass or in its inner dataclasses."""
    hints = get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _refuse_empty_paths(value, f"{prefix}{field.name}.")
        may_be_path = Path in get_args(hints[field.name])
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, _EmptyPath) or (may_be_path and one == ""):
                is_positional = "Positional" in str(hints[field.name])
                name = f"{prefix}{field.name}".replace("_", "-")
                raise UserError(
                    f"{name if is_positional else f'--{name}'} is an empty path "
                    '("." is the current folder)'
                )


def run(main: Callable[[], object]) -> None:
    """Call `main` as the program of a command line, and end the process.

    A `UserError` ends it with one line on stderr and exit status 2. So does an error of the system
    (a full disk, a missing permission), whose message names the file. After Ctrl-C, SIGTERM and
    SIGHUP, `main` cleans up; one line says what is kept, and the status is 128 plus the number of
    the signal. If the reader of stdout closes it, as `head` does, the status is 128 plus that of
    SIGPIPE, and there is no line.
    """
    printing.prepare()
    # A rank that waits inside a library for a rank that has ended would not see the exception.
    is_rank = environment.text("TORCHELASTIC_RUN_ID")
    try:
        with contextlib.nullcontext() if is_rank else _signals_as_interrupts():
            environment.check()
            main()
        printing.flush()
    except (UserError, OSError, MemoryError, KeyboardInterrupt) as error:
        status, line = _ending(error)
        if line:
            printing.tell(line)
        sys.exit(status)
    finally:
        printing.finish()


def _ending(error: BaseException) -> tuple[int, str]:
    """Return the exit status and the last line, or ""."""
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE, ""
    if isinstance(error, KeyboardInterrupt):
        number = error.number if isinstance(error, Ended) else signal.SIGINT
        told = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
        notes = "; ".join(getattr(error, "__notes__", ()))
        return 128 + number, f"{told}: {notes}" if notes else told
    return 2, f"error: {'out of memory' if isinstance(error, MemoryError) else error}"


class Ended(KeyboardInterrupt):
    """A request to end this process by a signal other than that of Ctrl-C."""

    def __init__(self, number: signal.Signals) -> None:
        """Remember `number`, the signal that asked."""
        super().__init__()
        self.number = number


@contextlib.contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Make SIGTERM and SIGHUP exceptions in a block, unless they are ignored (as under nohup)."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    raise Ended(signal.Signals(number))


@contextlib.contextmanager
def keeps(what: str) -> Iterator[None]:
    """Add to an interruption of a block or a function a note about the work that is kept."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(what)
        raise
