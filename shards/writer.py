"""Writes a shard set: tars whose bytes depend on the samples alone, published whole or not at all.

A killed build leaves nothing under the final name: everything is written into the hidden sibling
`.<name>.partial-<random>`, synced to the disk, and renamed in one step.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from shards.cli import UserError
from shards.disk import sync
from shards.index import Component, format_index
from shards.manifest import FILE_NAME, NAMES_FILE_NAME, Manifest, Shard, to_json

BLOCK_BYTES = 512
"""Headers and data of a tar are multiples of this."""
PIXELS, LABEL = "bin", "cls"
"""Extensions of the two components of a sample."""


def sample_key(sample_id: int) -> str:
    """The name of a sample in its tar: the id in nine digits."""
    return f"{sample_id:09d}"


def member_header(key: str, extension: str, size: int) -> bytes:
    """The 512-byte USTAR header of a member: mode 0644, time 0, no owner.

    Equal to what `tarfile` makes, but only the name and the checksum are made anew each time.
    """
    name = f"{key}.{extension}".encode()
    tail, tail_sum = _header_tail(size)
    # The checksum counts its own eight bytes as spaces; they are spaces in the template.
    checksum = b"%06o\0 " % (sum(name) + tail_sum)
    return name.ljust(100, b"\0") + tail[:48] + checksum + tail[56:]


@functools.lru_cache(maxsize=64)
def _header_tail(size: int) -> tuple[bytes, int]:
    """Bytes 100..511 of a header, its checksum field blank, and their sum."""
    info = tarfile.TarInfo("")
    info.size = size
    tail = bytearray(info.tobuf(tarfile.USTAR_FORMAT)[100:])
    tail[48:56] = b" " * 8
    return bytes(tail), sum(tail)


class ShardWriter:
    """One tar, written sample by sample in the order of their ids, and its index."""

    def __init__(self, folder: Path, file: str, first_id: int) -> None:
        """Open `folder`/`file` (`<...>.tar`), whose first sample will have the id `first_id`."""
        self._path = folder / file
        self._first_id = first_id
        self._out = open(self._path, "xb", buffering=1 << 20)
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._samples = 0
        self._places: dict[str, list[tuple[int, int, str]]] = {}

    def add(self, pixels: np.ndarray, label: int | None) -> None:
        """Append a sample: uint8 [H,W,C], and its label unless the set is unlabelled."""
        key = sample_key(self._first_id + self._samples)
        self._add_member(key, PIXELS, pixels.tobytes())
        if label is not None:
            self._add_member(key, LABEL, b"%d" % label)
        self._samples += 1

    def _add_member(self, key: str, extension: str, data: bytes) -> None:
        offset = self._bytes + BLOCK_BYTES
        self._places.setdefault(extension, []).append((offset, len(data), f"{key}.{extension}"))
        padding = b"\0" * (-len(data) % BLOCK_BYTES)
        self._write(member_header(key, extension, len(data)) + data + padding)

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._sha256.update(data)
        self._bytes += len(data)

    def abandon(self) -> None:
        """Close the tar as it is; its folder is about to be removed."""
        self._out.close()

    def finish(self) -> Shard:
        """End the tar, write its index beside it, sync both, and tell what was written."""
        self._write(b"\0" * (2 * BLOCK_BYTES))
        self._out.flush()
        os.fsync(self._out.fileno())
        self._out.close()
        components = {
            extension: Component(
                np.array([place[0] for place in places], np.int64),
                np.array([place[1] for place in places], np.int64),
                tuple(place[2] for place in places),
            )
            for extension, places in self._places.items()
        }
        index = format_index(components).encode()
        write_file(self._path.with_suffix(".idx"), index)
        return Shard(
            file=self._path.name,
            samples=self._samples,
            bytes=self._bytes,
            sha256=self._sha256.hexdigest(),
            idx_sha256=hashlib.sha256(index).hexdigest(),
        )


def write_names(folder: Path, names: Sequence[str]) -> str:
    """Write names.jsonl, line i = the name of sample i, and return its sha256.

    ASCII only, so that any file name (line breaks, bytes that are not UTF-8) comes back as it was.
    """
    lines = "".join(json.dumps(name) + "\n" for name in names).encode("ascii")
    write_file(folder / NAMES_FILE_NAME, lines)
    return hashlib.sha256(lines).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json: the last file of a set."""
    write_file(folder / FILE_NAME, to_json(manifest).encode())


def write_file(path: Path, data: bytes) -> None:
    """Write a new file and sync it to the disk."""
    with open(path, "xb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def refuse_existing(directory: Path) -> None:
    """Raise a `UserError` if there is anything under the name of the output folder."""
    if os.path.lexists(directory):
        raise UserError(f"{directory}: exists already; name a new output folder or remove this one")


@contextlib.contextmanager
def publishing(directory: Path) -> Iterator[Path]:
    """A new folder to write into, which becomes `directory` if the block ends without an error.

    On an error the new folder is removed. What a killed build has left beside it goes too: such a
    folder is known by its lock, which died with the build.

    Raises:
        UserError: `directory` exists (before the block, or by the time it ends), or the system
            refuses to read or write (disk full, no permission).
    """
    directory = Path(os.path.abspath(directory))
    refuse_existing(directory)
    partial = directory.with_name(f".{directory.name}.partial-{secrets.token_hex(4)}")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(directory)
        partial.mkdir()
        with contextlib.ExitStack() as lock:
            # Some network file systems have no locks; there, what a kill leaves stays.
            with contextlib.suppress(OSError):
                lock.enter_context(_locked(partial))
            yield partial
            sync(partial)
            refuse_existing(directory)
            os.rename(partial, directory)
            sync(directory.parent)
    except OSError as error:
        raise UserError(f"{directory}: not written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_stale(directory: Path) -> None:
    prefix = f".{directory.name}.partial-"
    for entry in os.scandir(directory.parent):
        if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
            with contextlib.suppress(OSError), _locked(Path(entry.path)):
                shutil.rmtree(entry.path)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`; OSError if another process does."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
