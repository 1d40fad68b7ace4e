"""R1 and R2: sets that were cut, edited, mixed up or have a flipped bit.

The fast check and the reader refuse each change of sizes, names, indexes and manifest before they
read an image; `--full` also each flipped bit. The message names the file. Edits are tried twice: as
they are, and with all digests made to match again, so that what refuses is not a digest alone.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import os
import shutil
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shards.errors import UserError
from shards.reader import ShardSet
from shards.verify import verify_shards
from tests.faults.cases import Builder, Source, jpeg_source, npy_source
from tests.faults.edits import BLOCK_BYTES, SAME_BLOCKS, index_edits, signed_edits
from tests.faults.trial import Trial
from tests.support.commands import run_command
from tests.support.shard_cases import random_images


def drill(trial: Trial) -> dict[str, object]:
    """Damage a raw and a labelled set of JPEGs in every way, one at a time."""
    figures: dict[str, object] = {}
    builder = Builder(trial.folder)
    sources = [
        npy_source(trial.folder, count=25, shard_samples=10),
        jpeg_source(trial.folder, count=25, size_px=16, shard_samples=10, bad=1),
    ]
    options: dict[str, object] = {"encoding": "jpg", "max_rejects_pct": 10}
    for source, more in zip(sources, ({}, options), strict=True):
        out = trial.folder / source.name
        outcome = builder.run(source.argv(out, **more))
        assert outcome.status == 0, outcome
        damaged = Damaged(trial, out)
        for kind in (cut_tars, damage_indexes, edit_manifests, damage_lists, mix_up, replace):
            kind(damaged)
        flip_bits(damaged)
        by_command_line(damaged)
        for name, count in damaged.tally.items():
            figures[name] = int(str(figures.get(name, 0))) + count
    figures["full_check_GB_s"] = full_check_gb_s(trial)
    return figures


class Damaged:
    """A set of which one thing at a time is changed, checked and put back."""

    def __init__(self, trial: Trial, out: Path) -> None:
        """`out` is whole."""
        self.trial, self.out = trial, out
        self.whole = {path: path.read_bytes() for path in sorted(out.iterdir())}
        self.tars = [path for path in self.whole if path.suffix == ".tar"]
        self.indexes = [path.with_suffix(".idx") for path in self.tars]
        self.manifest_path = out / "manifest.json"
        self.manifest = json.loads(self.whole[self.manifest_path])
        self.tally: collections.Counter[str] = collections.Counter()

    @contextlib.contextmanager
    def put_back(self) -> Iterator[None]:
        """Afterwards all files are as they were."""
        try:
            yield
        finally:
            for path in self.out.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            for path, data in self.whole.items():
                path.write_bytes(data)

    def refused(self, kind: str, what: str, names: tuple[str, ...], full: bool = False) -> None:
        """What is there now is refused, by checks that do not read images unless `full`."""
        checks: list[Callable[[], Any]] = [lambda: verify_shards(self.out, full=full)]
        if not full:
            checks.append(lambda: ShardSet.open(self.out).close())
        self.tally[kind] += 1
        for check in checks:
            said = ""
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    check()
            except UserError as error:
                said = str(error)
            except Exception as error:  # anything else is a failure of the check
                said = f"!{error!r}"
            is_named = any(name in said for name in names)
            is_told = bool(said) and said[0] != "!" and is_named and "\n" not in said
            what_it_said = f"{self.out.name}: {what}: {said[:200] or 'accepted'}"
            self.tally["refused"] += self.trial.expect(is_told, what_it_said)

    def write(self, kind: str, what: str, path: Path, data: bytes, signed: bool = False) -> None:
        """Give a file another content; `signed`: and the manifest the digests that fit."""
        if data == self.whole[path] and not signed:
            return
        with self.put_back():
            path.write_bytes(data)
            names = (path.name,)
            if signed:
                fields = json.loads(json.dumps(self.manifest))
                for shard in fields["shards"]:
                    shard["sha256"] = file_digest(self.out / shard["file"])
                    index = (self.out / shard["file"]).with_suffix(".idx")
                    shard["idx_sha256"] = file_digest(index)
                fields["names_sha256"] = file_digest(self.out / "names.jsonl")
                self.manifest_path.write_text(sign(fields))
                # With an index that points elsewhere, either file may be the one at fault.
                names = (path.name, path.with_suffix(".tar").name)
            self.refused(kind, what, names)

    def write_manifest(self, what: str, fields: Any) -> None:
        """Give the manifest other fields, and a digest that fits them."""
        with self.put_back():
            self.manifest_path.write_text(sign(fields))
            names = tuple(path.name for path in (*self.whole, self.out / "nowhere"))
            self.refused("manifest_signed", f"manifest, signed: {what}", names)


def file_digest(path: Path) -> str:
    """The sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sign(fields: dict[str, Any]) -> str:
    """A manifest's text with the digest of its fields."""
    plain = {name: value for name, value in fields.items() if name != "~sha256"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return json.dumps({**plain, "~sha256": digest}, indent=1, sort_keys=True) + "\n"


def cut_tars(damaged: Damaged) -> None:
    """At every block, at random bytes; and longer than they were."""
    for path in damaged.tars:
        data = damaged.whole[path]
        places = set(range(0, len(data), BLOCK_BYTES))
        random = damaged.trial.rng().integers(0, len(data), damaged.trial.count(100, 1000))
        for place in sorted(places | set(random.tolist())):
            damaged.write("tar_cut", f"{path.name} cut at {place}", path, data[:place])
        for more in (b"\0", bytes(BLOCK_BYTES), data):
            what = f"{path.name} longer by {len(more)}"
            damaged.write("tar_longer", what, path, data + more)


def damage_indexes(damaged: Damaged) -> None:
    """Cut, edited and replaced; with digests that do not fit, and with ones that do."""
    for path, tar in zip(damaged.indexes, damaged.tars, strict=True):
        data = damaged.whole[path]
        for place in range(0, len(data), damaged.trial.count(7, 1)):
            for signed in (False, True):
                what = f"{path.name} cut at {place}, signed {signed}"
                damaged.write("idx_cut", what, path, data[:place], signed)
        for what, text in index_edits(data.decode(), len(damaged.whole[tar])):
            # A size of as many blocks is wrong only by the member's header; of those, the fast
            # check reads two.
            for signed in (False,) if what.endswith(SAME_BLOCKS) else (False, True):
                edited = text if isinstance(text, bytes) else text.encode()
                what = f"{path.name}: {what}, signed {signed}"
                damaged.write("idx_edited", what, path, edited, signed)
    others = [damaged.whole[path] for path in reversed(damaged.indexes)]
    for path, other in zip(damaged.indexes, others, strict=True):
        if other != damaged.whole[path]:
            for signed in (False, True):
                what = f"{path.name} is another's, signed {signed}"
                damaged.write("idx_swapped", what, path, other, signed)


def edit_manifests(damaged: Damaged) -> None:
    """Cut anywhere, each field changed or lost; and changes that are signed."""
    path, text = damaged.manifest_path, damaged.whole[damaged.manifest_path]
    for place in range(0, len(text) - 1, damaged.trial.count(5, 1)):
        damaged.write("manifest_cut", f"manifest cut at {place}", path, text[:place])
    rng = damaged.trial.rng()
    for place in rng.integers(0, len(text) - 1, damaged.trial.count(300, 3000)).tolist():
        flipped = text[:place] + bytes([text[place] ^ 1 << rng.integers(8)]) + text[place + 1 :]
        # White space may be other white space.
        if b"".join(flipped.split()) != b"".join(text.split()):
            what = f"manifest, a bit at {place}"
            damaged.write("manifest_bit", what, path, flipped)
    fields = damaged.manifest
    for name in fields:
        for value in (None, -1, 0, 10**30, 1.5, True, "", "x", [], {}, [[]], "\ud800", 1e999):
            # One empty list is as good as another.
            is_as_empty = fields[name] == [] and value in ("", [], {})
            if is_as_empty or (value == fields[name] and type(value) is type(fields[name])):
                continue
            edited = json.dumps({**fields, name: value}).encode()
            damaged.write("manifest_edited", f"manifest: {name} = {value!r}", path, edited)
        lost = {other: value for other, value in fields.items() if other != name}
        damaged.write("manifest_edited", f"no {name}", path, json.dumps(lost).encode())
    for strange in (b"[]", b"null", b"3", b'"x"', b"{}", b"[" * 100_000, b"\xff\xfe{}", b"NaN"):
        damaged.write("manifest_edited", f"manifest is {strange[:9]!r}", path, strange)
    for what, edited in signed_edits(fields, damaged.out):
        damaged.write_manifest(what, edited)


def damage_lists(damaged: Damaged) -> None:
    """names.jsonl, rejects.jsonl, sizes.bin: cut, a bit flipped; lines lost or swapped."""
    for path, data in damaged.whole.items():
        if path.suffix == ".jsonl":
            lines = data.splitlines(keepends=True)
            for place in range(0, len(data), 3):
                damaged.write("list_cut", f"{path.name} cut at {place}", path, data[:place])
            for what, edited in (
                ("swapped lines", b"".join(lines[::-1]) if len(lines) > 1 else data + b"\n"),
                ("a line twice", data + lines[-1]),
                ("a space", data.replace(b"\n", b" \n", 1)),
            ):
                damaged.write("list_edited", f"{path.name}: {what}", path, edited)
    sizes = damaged.out / "sizes.bin"
    data = damaged.whole.get(sizes, b"")
    for place in range(len(data)):
        damaged.write("sizes_cut", f"sizes.bin cut at {place}", sizes, data[:place])
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        damaged.write("sizes_edited", f"sizes.bin, a bit of byte {place}", sizes, flipped)
    names = damaged.out / "names.jsonl"
    lines = damaged.whole[names].splitlines(keepends=True)
    lost = b"".join(lines[:-1])
    damaged.write("list_edited", "a name lost, signed", names, lost, signed=True)


def mix_up(damaged: Damaged) -> None:
    """Shards that changed places, with and without their indexes, and with all digests right."""
    a, b = damaged.tars[:2]
    for suffixes in ((".tar",), (".idx",), (".tar", ".idx")):
        for signed in (False, True):
            with damaged.put_back():
                for suffix in suffixes:
                    one, other = a.with_suffix(suffix), b.with_suffix(suffix)
                    one.write_bytes(damaged.whole[other])
                    other.write_bytes(damaged.whole[one])
                if signed:
                    fields = json.loads(json.dumps(damaged.manifest))
                    for shard in fields["shards"]:
                        tar = damaged.out / shard["file"]
                        shard["bytes"] = tar.stat().st_size
                        shard["sha256"] = file_digest(tar)
                        shard["idx_sha256"] = file_digest(tar.with_suffix(".idx"))
                    damaged.manifest_path.write_text(sign(fields))
                what = f"{suffixes} of two shards swapped, signed {signed}"
                damaged.refused("shards_swapped", what, (a.stem, b.stem))


def replace(damaged: Damaged) -> None:
    """Files that are missing, links, pipes, folders or sockets."""
    listed = [path for path in damaged.whole if path.name != "manifest.json"]
    for path in listed:
        for kind, put in REPLACEMENTS.items():
            with damaged.put_back():
                path.unlink()
                put(path, damaged.whole[path])
                damaged.refused("file_replaced", f"{path.name} is {kind}", (path.name,))
    for kind in ("missing", "a dangling link", "a pipe", "a folder"):
        with damaged.put_back():
            damaged.manifest_path.unlink()
            REPLACEMENTS[kind](damaged.manifest_path, b"")
            damaged.refused("file_replaced", f"manifest.json is {kind}", ("manifest.json",))


def _link_to_copy(path: Path, data: bytes) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(data)
    path.symlink_to(copy)


def _socket(path: Path, data: bytes) -> None:
    # Its address would be too long as an absolute path.
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


REPLACEMENTS: dict[str, Callable[[Path, bytes], Any]] = {
    "missing": lambda path, data: None,
    "a link to the same": _link_to_copy,
    "a dangling link": lambda path, data: path.symlink_to("nowhere"),
    "a link to itself": lambda path, data: path.symlink_to(path.name),
    "a device": lambda path, data: path.symlink_to("/dev/zero"),
    "a pipe": lambda path, data: os.mkfifo(path),
    "a folder": lambda path, data: path.mkdir(),
    "a socket": _socket,
}


def flip_bits(damaged: Damaged) -> None:
    """R2: one bit anywhere in a tar; only the full check has to see it."""
    rng = damaged.trial.rng(2)
    for _ in range(damaged.trial.count(500, 5000)):
        path = damaged.tars[rng.integers(len(damaged.tars))]
        place, bit = int(rng.integers(len(damaged.whole[path]))), int(rng.integers(8))
        with open(path, "r+b") as tar:
            tar.seek(place)
            tar.write(bytes([damaged.whole[path][place] ^ 1 << bit]))
        what = f"{path.name}, bit {bit} of byte {place}"
        damaged.refused("bit_flipped", what, (path.name,), full=True)
        path.write_bytes(damaged.whole[path])
    verify_shards(damaged.out, full=True)


def by_command_line(damaged: Damaged) -> None:
    """What a user sees: which check was made of a whole set, and one line about a broken one."""
    for options, said in (((), "not images"), (("--full",), "all bytes")):
        done = run_command("-m", "shards.verify", damaged.out, *options)
        is_told = done.returncode == 0 and said in done.stdout
        damaged.trial.expect(is_told, f"{options}: {done}")
    with damaged.put_back():
        damaged.tars[0].write_bytes(damaged.whole[damaged.tars[0]][:-1])
        for options in ((), ("--full",)):
            done = run_command("-m", "shards.verify", damaged.out, *options)
            is_told = done.returncode == 2 and damaged.tars[0].name in done.stderr
            is_told = is_told and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
            damaged.trial.expect(is_told, f"cut, {options}: {done}")


def full_check_gb_s(trial: Trial) -> float:
    """The rate of `verify_shards(full=True)` on a set that is in the page cache."""
    array = trial.folder / "large.npy"
    np.save(array, np.resize(random_images(1000, size_px=64), (16_000, 64, 64, 3)))
    source = Source("npy", dict(source="npy", src=array, size_px=64))
    out = trial.folder / "large"
    builder = Builder(trial.folder)
    outcome = builder.run(source.argv(out))
    assert outcome.status == 0, outcome
    size = sum(path.stat().st_size for path in out.glob("*.tar"))
    rates = []
    for _ in range(3):
        start_s = time.perf_counter()
        verify_shards(out, full=True)
        rates.append(size / 1e9 / (time.perf_counter() - start_s))
    return round(sorted(rates)[1], 2)
