"""Messages about mistyped options and names, in one line, with a similar correct name.

tyro prints a wrong option as a box of many lines. This file runs tyro, captures the box, and makes
one line from its words. The names of all options are parsed from the text of --help, because tyro
has no public function that returns them.
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
"""The options that show the help."""
ONE_BOX, WIDE = "100", "100000"
"""Two widths of a terminal, in columns. With the width ONE_BOX, tyro does not put boxes side by
side. With the width WIDE, tyro does not break lines."""
OPTION = re.compile(r"--?[A-Za-z][\w.-]*")


def did_you_mean(name: str, names: Iterable[str], most: int = 1) -> str:
    """Return a hint to add to the message about an unknown name, such as "; did you mean x?".

    The hint is "" if no existing name is similar.

    Args:
        name: The unknown name.
        names: The names that exist.
        most: The largest number of similar names in the hint.
    """
    by_lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), by_lower, most)
    return f"; did you mean {' or '.join(by_lower[one] for one in close)}?" if close else ""


def unknown(word: str, kind: Any, argv: Sequence[str], **options: Any) -> str:
    """Return the error message about a word of a command line that tyro does not know.

    Args:
        word: The unknown word.
        kind: The dataclass of the options.
        argv: The whole command line.
        **options: Further arguments of `tyro.cli`.
    """
    if not OPTION.fullmatch(_name(word)):
        return f"{word!r} is neither an option nor the value of one; --help shows the options"
    known = _known_options(kind, argv, **options)
    end = _name(word).lstrip("-")
    # If only the group of an option was left out, the last part of its name is correct.
    whole = [option for option in known if option.lstrip("-").rpartition(".")[2] == end]
    hint = f"; did you mean {whole[0]}?" if whole else did_you_mean(f"--{end}", known)
    return f"unknown option {_given(word)}{hint or '; --help shows the options'}"


def explain(kind: Any, argv: Sequence[str], **options: Any) -> str:
    """Return the error message, in one line, about a command line that tyro does not accept.

    Args:
        kind: The dataclass of the options.
        argv: The whole command line.
        **options: Further arguments of `tyro.cli`.
    """
    known = _known_options(kind, argv, **options)
    for word in argv:
        if OPTION.fullmatch(_name(word)) and _name(word) not in known:
            return unknown(word, kind, argv, **options)
    _, told = _run(kind, argv, columns=WIDE, **options)
    return _one_line(told)


def _one_line(told: str) -> str:
    """Shorten tyro's framed error message to one line, without the help text in the frame."""
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
    # Below the mistake, tyro prints the help of the option. It begins with the option's type.
    starts = [line.strip() for section in others for line in section]
    metavars = [line.removeprefix(option) for line in starts if line.startswith(f"{option} ")]
    given = re.findall("'([^']*)'", said[0])
    if not metavars or not given:
        return text
    return f"{option} is {given[-1]}, expected {metavars[0].replace('{None}|', '').strip()}"


def _sections(told: str) -> list[list[str]]:
    """Split a box of tyro into sections, and return the lines of each section.

    The title and the borders of the box are left out.
    """
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
    """Return the name of an option in the spelling of tyro's help: with "-", without "=value"."""
    return _given(word).replace("_", "-")


def _known_options(kind: Any, argv: Sequence[str], **options: Any) -> set[str]:
    """Return the names of all options of a command.

    If `argv` starts with a sub-command, the options of this sub-command are returned.
    """
    words = []
    for word in argv:
        if word.startswith("-"):
            break
        words.append(word)
    shown, _ = _run(kind, [*words, "--help"], columns=ONE_BOX, **options)
    # Lines with more indentation are left out. They are help texts, which may begin with an option.
    entries = re.findall(r"^[│| ] (--?[A-Za-z].*?)(?: {2,}|[│|]|$)", shown, re.M)
    return {option for entry in entries for option in OPTION.findall(entry)}


def _run(kind: Any, argv: Sequence[str], columns: str, **options: Any) -> tuple[str, str]:
    """Run tyro on a command line, and return what it prints on stdout and on stderr.

    tyro formats its texts for a terminal of `columns` columns.
    """
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
