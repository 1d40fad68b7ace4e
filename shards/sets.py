"""Build the sets of a named protocol: `python -m shards.sets --protocol NAME --src DIR --out DIR`.

The command looks for the official files below SRC, and builds each set into OUT/<set name>. A set
that the same request has built already is kept. If files are missing, the command prints where to
get them. Without arguments, the command lists the protocols.
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
    """The protocol to build, and the folder of its official files."""

    protocol: str = ""
    """Name of the protocol. Without a name, nothing is built and all protocols are listed."""
    src: Path = Path(".")
    """Folder with the official files, as downloaded or unpacked. The files may also be in its
    subfolders, at most two levels down."""
    out: Path = Path("out/shards")
    """Folder that will hold one folder per set."""
    only: tuple[str, ...] = ()
    """Names of the sets of the protocol to build; by default all sets are built."""
    seed: int = 0
    """Seed of the shuffle of each set."""
    md5: bool = True
    """Refuse official files whose md5 is not the published one."""
    count: bool = True
    """Refuse official files whose number of images is not the published one."""


@dataclass(frozen=True)
class Outcome:
    """The outcome for one set of a protocol."""

    wanted: NamedSet
    state: str
    """The state of the set: "built" = by this command; "kept" = it existed already; "missing" = its
    official files were not found; "failed" = its build stopped with an error."""
    manifest: Manifest | None
    """The manifest of the set; None if the set is missing or failed."""
    error: str = ""
    """The error message if the set failed; "" otherwise."""


def requests(request: SetsRequest) -> list[tuple[NamedSet, BuildRequest | None]]:
    """Return the sets that are asked for, each with the request that builds the set.

    The build request of a set is None if its official files are not found.

    Raises:
        UserError: The protocol or a set in `request.only` is unknown, or no set exists yet and
            `request.src` contains none of the official files.
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
        # A published result counts every image of the set.
        max_rejects_pct=0.0,
        md5=request.md5,
        count=request.count,
        protocol=request.protocol,
    )


def build_sets(request: SetsRequest) -> list[Outcome]:
    """Build the sets of a protocol that do not exist yet, if their official files are found.

    All existing sets are checked before the first set is built.

    Returns:
        One outcome per set that is asked for.

    Raises:
        UserError: As in `requests`, or an existing set is damaged or was built with another
            request. Then no set is built.
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
        # The other sets can still be built.
        return Outcome(one, "failed", None, str(error))


def show(request: SetsRequest, outcomes: Sequence[Outcome], console: Terminal) -> None:
    """Print a table with the state and the number of samples of each set.

    Below the table are the places where missing files can be found, and the notes on the sets.
    """
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
    """Group pairs (name of a set, text) by text.

    Returns:
        One pair (text, names of the sets with this text) per different text. A long list of names
        is shortened.
    """
    names: dict[str, list[str]] = {}
    for name, text in texts:
        names.setdefault(text, []).append(name)
    return [(text, few(about)) for text, about in names.items()]


def refuse_failed(outcomes: Sequence[Outcome]) -> None:
    """Raise an error if any set failed; sets that failed for the same cause are reported together.

    Raises:
        UserError: A set failed. The message names the sets and the cause. If there are several
            causes, each cause is printed on stderr, and the message gives the number of causes.
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
    """Print a table of all protocols and the names of their sets."""
    table = Table("protocol", "what it is", "sets", title="named protocols")
    for name, protocol in PROTOCOLS.items():
        table.add_row(name, protocol.about, ", ".join(one.name for one in protocol.sets))
    console.print(table)


@cli.keeps("sets that are finished are kept")
def main(argv: Sequence[str] | None = None) -> None:
    """Build the sets of a protocol and print a table of the sets."""
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
