"""Messages about mistyped commands and names: one line with the mistake and a near correct name.

tyro prints a mistake as a box of many lines. The words of that box are read here, and the options
of a command are read from its help. All versions of tyro print both, and none has a public function
that returns them.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import tyro

HELP = {"-h", "--help"}
"""Options that show the help."""
ONE_BOX, WIDE = "100", "100000"
"""Widths of a terminal, columns. At the first, tyro does not put boxes side by side; at the second,
it does not break a line."""
OPTION = re.compile(r"--?[A-Za-z][\w.-]*")


def did_you_mean(name: str, names: Iterable[str], most: int = 1) -> str:
    """Return the end of a message about an unknown name: "; did you mean x?", or "".

    Args:
        name: The name that was given.
        names: The names that exist.
        most: The largest number of near names in the message.
    """
    by_lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), by_lower, most)
    return f"; did you mean {' or '.join(by_lower[one] for one in close)}?" if close else ""


def unknown(word: str, kind: Any, argv: Sequence[str], **options: Any) -> str:
    """Return the message about a word of a command line that tyro does not know."""
    if not OPTION.fullmatch(_name(word)):
        return f"{word!r} is neither an option nor the value of one; --help shows the options"
    known = _known_options(kind, argv, **options)
    end = _name(word).lstrip("-")
    # An option whose group was left out has its last part spelled right.
    whole = [option for option in known if option.lstrip("-").rpartition(".")[2] == end]
    hint = f"; did you mean {whole[0]}?" if whole else did_you_mean(f"--{end}", known)
    return f"unknown option {_given(word)}{hint or '; --help shows the options'}"


def explain(kind: Any, argv: Sequence[str], **options: Any) -> str:
    """Return the message about a command line that tyro has refused."""
    known = _known_options(kind, argv, **options)
    for word in argv:
        if OPTION.fullmatch(_name(word)) and _name(word) not in known:
            return unknown(word, kind, argv, **options)
    _, told = _run(kind, argv, columns=WIDE, **options)
    return _one_line(told)


def _one_line(told: str) -> str:
    """Return in one line what tyro's box says about the value, without the help in it."""
    said, *others = _sections(told) or [[told]]
    text = " ".join(line.strip() for line in said)
    if text.startswith("Missing from"):
        depth = min(map(_indent, said[1:]))
        names = [line.strip() for line in said[1:] if _indent(line) == depth]
        return f"missing: {', '.join(names)}; --help explains them"
    if missing := re.match("The following arguments are required: (.*)", text):  # tyro 0.9
        return f"missing: {missing[1]}; --help explains them"
    named = re.search(r"argument '?(--[\w.-]+)|parsing (--[\w.-]+)", text, re.I)
    if named is None:
        return text
    option = named[1] or named[2]
    if choice := re.search(r"invalid choice:? '(.*?)'.*(?:one of|choose from) (.*)", text):
        choices = [word for word in re.findall("'([^']*)'", choice[2]) if word != "None"]
        hint = did_you_mean(choice[1], choices)
        return f"{option} is {choice[1]}, expected {', '.join(choices)}{hint}"
    # Below the mistake tyro prints the help of the option, which begins with its type.
    starts = [line.strip() for section in others for line in section]
    metavars = [line.removeprefix(option) for line in starts if line.startswith(f"{option} ")]
    given = re.findall("'([^']*)'", said[0])
    if not metavars or not given:
        return text
    return f"{option} is {given[-1]}, expected {metavars[0].replace('{None}|', '').strip()}"


def _sections(told: str) -> list[list[str]]:
    """Return the lines of each section of a box, without its title and its borders."""
    sections: list[list[str]] = [[]]
    for line in told.splitlines()[1:]:
        bare = re.sub(r"^[│|]", " ", line).rstrip(" │|")
        if bare.strip(" -─╰╯"):
            sections[-1].append(bare)
        elif bare:
            sections.append([])
    return [section for section in sections if section]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _given(word: str) -> str:
    return word.partition("=")[0]


def _name(word: str) -> str:
    """Return an option as tyro's help spells it."""
    return _given(word).replace("_", "-")


def _known_options(kind: Any, argv: Sequence[str], **options: Any) -> set[str]:
    """Return the options of a command, or of its sub-command that `argv` names."""
    words = []
    for word in argv:
        if word.startswith("-"):
            break
        words.append(word)
    shown, _ = _run(kind, [*words, "--help"], columns=ONE_BOX, **options)
    # Indented lines are left out, because a line of their text may begin with an option too.
    entries = re.findall(r"^[│| ] (--?[A-Za-z].*?)(?: {2,}|[│|]|$)", shown, re.M)
    return {option for entry in entries for option in OPTION.findall(entry)}


def _run(kind: Any, argv: Sequence[str], columns: str, **options: Any) -> tuple[str, str]:
    """Return what tyro prints on stdout and on stderr, on a terminal of `columns` columns."""
    output, errors = io.StringIO(), io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = columns
    try:
        with (
            contextlib.suppress(SystemExit),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            tyro.cli(kind, args=list(argv), return_unknown_args=True, **options)
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return output.getvalue(), errors.getvalue()
