"""Functions that every command uses to parse its command line and to end the process."""

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
    """Parse a command line with tyro.

    Args:
        kind: The dataclass whose fields are the options.
        argv: The words of the command line. None means the command line of this process.
        **options: Further arguments of `tyro.cli`, such as `description`.

    Returns:
        An instance of `kind`.

    Raises:
        UserError: An option is unknown, is missing, or has an invalid value, such as an empty path.
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
    """The value of an option whose path was given as "".

    `Path("")` is not used, because it would silently mean the current folder.
    """


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
    """Raise an error if a path in a dataclass was given as an empty text.

    Args:
        config: The dataclass. The dataclasses in its fields are searched too.
        prefix: The start of the names of the options, such as "data.".

    Raises:
        UserError: A path is empty. The message names the option.
    """
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
    """Call `main`, the program of a command, and end the process if `main` fails.

    - After a `UserError`, or an error of the system (a full disk, a missing permission, no memory),
      one line on stderr describes the error, and the exit status is 2.
    - After Ctrl-C, SIGTERM or SIGHUP, `main` gets a `KeyboardInterrupt`, so that it can clean up.
      Then one line on stderr says what work is kept, and the exit status is 128 plus the number of
      the signal.
    - If the program that reads stdout closes it, as `head` does, nothing is printed, and the exit
      status is 128 plus the number of SIGPIPE.
    """
    printing.prepare()
    # In a run with several ranks, signals keep their default action, which ends the process at
    # once. A rank that waits in a library for another rank would not see an exception.
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
    """Return the exit status of the process, and the line to print on stderr.

    The line is "" if nothing is to be printed.
    """
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE, ""
    if isinstance(error, KeyboardInterrupt):
        number = error.number if isinstance(error, Ended) else signal.SIGINT
        told = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
        notes = "; ".join(getattr(error, "__notes__", ()))
        return 128 + number, f"{told}: {notes}" if notes else told
    return 2, f"error: {'out of memory' if isinstance(error, MemoryError) else error}"


class Ended(KeyboardInterrupt):
    """The exception for a signal that ends this process, except SIGINT (Ctrl-C)."""

    def __init__(self, number: signal.Signals) -> None:
        """Store `number`, the signal that the process received."""
        super().__init__()
        self.number = number


@contextlib.contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Raise `Ended` in the block when the process receives SIGTERM or SIGHUP.

    A signal that is ignored (such as SIGHUP under nohup) stays ignored.
    """
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
    """Add the note `what` to a `KeyboardInterrupt` that is raised in the block.

    The note tells the user what work is kept. This is also a decorator for functions.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(what)
        raise
