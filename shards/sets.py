"""Builds the sets of a named protocol: `python -m shards.sets --protocol NAME --src DIR --out DIR`.

What is found below SRC is built into OUT/<set name>; a set that is there already, from the same
request, is kept; of what is missing it says where to get it. Without arguments: the protocols.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.building.existing import checked_existing
from shards.building.workplace import remove_leftovers
from shards.errors import UserError, few, printable
from shards.manifest import Manifest
from shards.protocols import PROTOCOLS, NamedSet, Protocol
from shards.sources.registry import FORMATS, locate
from shards.terminal import cli
from shards.terminal.console import Terminal
from shards.terminal.mistakes import did_you_mean
from shards.verify import verify_shards


@dataclass(frozen=True)
class SetsRequest:
    """Which protocol to build from where."""

    protocol: str = ""
    """The named protocol; by default they are listed."""
    src: Path = Path(".")
    """Folder that has the official files, as downloaded or unpacked, up to two folders below."""
    out: Path = Path("out/shards")
    """Folder that will hold one folder per set."""
    only: tuple[str, ...] = ()
    """Build only these sets of the protocol."""
    seed: int = 0
    """Seed of the global shuffles."""
    md5: bool = True
    """Hold official files to their published md5, where there is one."""
    count: bool = True
    """Hold official files to their published number of images."""


@dataclass(frozen=True)
class Outcome:
    """What became of one set."""

    wanted: NamedSet
    state: str
    """"built", "kept", "missing" or "failed"."""
    manifest: Manifest | None
    """None when it is missing or failed."""
    error: str = ""
    """Why it failed."""


def requests(request: SetsRequest) -> list[tuple[NamedSet, BuildRequest | None]]:
    """Each set that is asked for, and how to build it; None where its files are not found.

    Raises:
        UserError: there is no such protocol or set, or none of its sets' files are below `src`.
    """
    protocol = _protocol(request.protocol)
    unknown = set(request.only) - {one.name for one in protocol.sets}
    if unknown:
        names = [one.name for one in protocol.sets]
        raise UserError(
            f"only: no set {min(unknown)!r} in {request.protocol}, it has {', '.join(names)}"
            f"{did_you_mean(min(unknown), names)}"
        )
    wanted = [one for one in protocol.sets if not request.only or one.name in request.only]
    if not request.src.exists():
        raise UserError(f"src is {request.src}: no such folder")
    found = [(one, locate(one.source, one.split, request.src)) for one in wanted]
    if not any(path or (request.out / one.name).exists() for one, path in found):
        files = {
            name.removeprefix("./").format(split=one.split)
            for one in wanted
            for name in FORMATS[one.source].files
        }
        raise UserError(
            f"src is {request.src}: none of the files of {request.protocol} in it or two folders "
            f"below ({', '.join(sorted(files))})"
        )
    return [
        (one, None if path is None else _build_request(request, protocol, one, path))
        for one, path in found
    ]


def _protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        hint = did_you_mean(name, PROTOCOLS)
        raise UserError(f"protocol is {name!r}, there are: {', '.join(PROTOCOLS)}{hint}")
    return PROTOCOLS[name]


def _build_request(
    request: SetsRequest, protocol: Protocol, one: NamedSet, path: Path
) -> BuildRequest:
    return BuildRequest(
        source=one.source,
        src=path,
        split=one.split,
        size_px=protocol.size_px,
        resize=protocol.resize,
        out=request.out / one.name,
        labels=one.labels,
        classes=protocol.classes,
        seed=request.seed,
        # Every image of a published set counts in a table.
        max_rejects_pct=0.0,
        md5=request.md5,
        count=request.count,
        protocol=request.protocol,
    )


def build_sets(request: SetsRequest) -> list[Outcome]:
    """Build the sets of a protocol that are found and are not there yet.

    Raises:
        UserError: a set is there but damaged or built from another request; then none is built.
    """
    wanted = requests(request)
    kept: dict[str, Manifest] = {}
    for one, how in wanted:
        out = request.out / one.name
        if out.exists():
            remove_leftovers(out)
            kept[one.name] = verify_shards(out) if how is None else checked_existing(how)
    outcomes = []
    for one, how in wanted:
        if one.name in kept:
            outcomes.append(Outcome(one, "kept", kept[one.name]))
        elif how is None:
            outcomes.append(Outcome(one, "missing", None))
        else:
            outcomes.append(_built(one, how))
    return outcomes


def _built(one: NamedSet, how: BuildRequest) -> Outcome:
    try:
        return Outcome(one, "built", build(how))
    except UserError as error:
        # The other sets are none the worse for it.
        return Outcome(one, "failed", None, str(error))


def show(request: SetsRequest, outcomes: Sequence[Outcome], console: Terminal) -> None:
    """Print what was built and what is missing, with the counts that a table should state."""
    protocol = PROTOCOLS[request.protocol]
    say = functools.partial(console.print, soft_wrap=True, markup=False)
    rule = f"{protocol.size_px} px, {protocol.resize}"
    title = Text(f"{request.protocol} ({rule}): {printable(str(request.out))}")
    table = Table("set", "role", "source", title=title)
    table.add_column("samples", justify="right")
    for column in ("size", "checked", "state"):
        table.add_column(column)
    for outcome in outcomes:
        wanted, manifest = outcome.wanted, outcome.manifest
        source = f"{wanted.source} {wanted.split}"
        if manifest is None:
            expected = f"({wanted.samples})"
            table.add_row(wanted.name, wanted.role, source, expected, "", "", outcome.state)
            continue
        counted = "" if manifest.samples == wanted.samples else f" of {wanted.samples}"
        size = "x".join(str(length) for length in manifest.sample_shape)
        checks = ", ".join(manifest.checks)
        table.add_row(
            wanted.name,
            wanted.role,
            source,
            f"{manifest.samples}{counted}",
            size,
            checks,
            outcome.state,
        )
    console.print(table)
    missing = [outcome.wanted for outcome in outcomes if outcome.state == "missing"]
    for what, names in _by_text((one.name, _where_to_get(one)) for one in missing):
        say(f"missing {names}: {what}")
    for note, names in _by_text((one.wanted.name, one.wanted.note) for one in outcomes):
        if note:
            say(f"note on {names}: {note}")
    if protocol.note:
        say(f"note: {protocol.note}")


def _where_to_get(wanted: NamedSet) -> str:
    known = FORMATS[wanted.source]
    names = [name.removeprefix("./") for name in known.files]
    return f"{' or '.join(names).format(split=wanted.split)}; {known.get_it}"


def _by_text(texts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each text once, with the first of the sets that it is about: 20 may be of one file."""
    names: dict[str, list[str]] = {}
    for name, text in texts:
        names.setdefault(text, []).append(name)
    return [(text, few(about)) for text, about in names.items()]


def refuse_failed(outcomes: Sequence[Outcome]) -> None:
    """Refuse to call it a success if a set failed; each cause is told once.

    Raises:
        UserError: names the sets and the cause; of several causes each has a line of its own on
            stderr, and the message says how many there are.
    """
    failed = [(one.wanted.name, one.error) for one in outcomes if one.state == "failed"]
    if not failed:
        return
    causes = [f"{names}: {cause}" for cause, names in _by_text(failed)]
    if len(causes) == 1:
        raise UserError(causes[0])
    for cause in causes:
        print(printable(f"failed {cause}"), file=sys.stderr)
    raise UserError(f"{len(failed)} of {len(outcomes)} sets failed, for {len(causes)} causes")


def show_protocols(console: Terminal) -> None:
    """Print the protocols that there are."""
    table = Table("protocol", "what it is", "sets", title="named protocols")
    for name, protocol in PROTOCOLS.items():
        table.add_row(name, protocol.about, ", ".join(one.name for one in protocol.sets))
    console.print(table)


@cli.keeps("sets that are finished are kept")
def main(argv: Sequence[str] | None = None) -> None:
    """Build the sets of a protocol and print a table of them."""
    request = cli.parse(SetsRequest, argv, description="Build all shard sets of a protocol.")
    console = Terminal(highlight=False)
    if not request.protocol:
        show_protocols(console)
        return
    outcomes = build_sets(request)
    show(request, outcomes, console)
    refuse_failed(outcomes)


if __name__ == "__main__":
    cli.run(main)
