"""The temporary folder in which a set is made.

The set `<name>` is made in the hidden folder `.<name>.partial` beside it. This folder has the
subfolder `set/` with the files of the set, and the subfolder `parts/` with a note about each
finished shard. When the set is complete, all files are synced to the disk, and `set/` is renamed to
`<name>`. So a set never appears incomplete.

A build that is killed or fails leaves the hidden folder. The next build of the same set uses its
finished shards again, if they come from the same request and the same source (`identity`) and have
not changed since they were written.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shards.building.tally import Tally
from shards.disk.locks import LOCK_FILE_NAME, LOCK_WAIT_S, locked
from shards.disk.publish import publish_folder, refuse_existing, sync, write_file, write_new_file
from shards.disk.reading import file_sha256
from shards.errors import UserError
from shards.manifest import Shard

IDENTITY_FILE_NAME = "identity"
OUTPUT_KIND = "output folder"


@dataclass(frozen=True)
class Part:
    """A finished shard, and the facts about its images that are needed to complete the set."""

    shard: Shard | None
    """The shard's entry in the manifest. None if all images of the shard were rejected, because
    then the shard has no file."""
    tally: Tally


@dataclass(frozen=True)
class Workplace:
    """The two folders in which a set is being made."""

    set_folder: Path
    """The folder with the files of the set; it is renamed when the set is complete."""
    parts_folder: Path
    """The folder with one note per finished shard, a JSON file."""

    def finish(self, number: int, part: Part) -> None:
        """Write the note that shard `number` is finished; its files must be on the disk."""
        note = json.dumps(part, default=vars).encode("ascii")
        write_new_file(self._part_path(number), [note])

    def part(self, number: int) -> Part:
        """Read the note about the finished shard `number`."""
        fields = json.loads(self._part_path(number).read_text("ascii"))
        shard = fields["shard"]
        return Part(shard and Shard(**shard), Tally(**fields["tally"]))

    def finished(self) -> set[int]:
        """Return the numbers of the shards that are finished and intact; remove all other files."""
        good = {}
        for path in self.parts_folder.glob("*.json"):
            # After a power cut a note may be half-written, or its shard may be missing.
            with contextlib.suppress(ValueError, TypeError, KeyError, OSError):
                number = int(path.stem)
                shard = self.part(number).shard
                if shard is None or self._is_intact(shard):
                    good[number] = shard
        kept = {self._part_path(number) for number in good}
        for shard in good.values():
            if shard is not None:
                kept |= {self.set_folder / shard.file, self.set_folder / shard.idx_file}
        for folder in (self.set_folder, self.parts_folder):
            for path in folder.iterdir():
                if path not in kept:
                    path.unlink()
        return set(good)

    def _part_path(self, number: int) -> Path:
        return self.parts_folder / f"{number:05d}.json"

    def _is_intact(self, shard: Shard) -> bool:
        tar, idx = self.set_folder / shard.file, self.set_folder / shard.idx_file
        return file_sha256(tar) == shard.sha256 and file_sha256(idx) == shard.idx_sha256


@contextlib.contextmanager
def workplace(directory: Path, identity: str) -> Iterator[Workplace]:
    """Yield the folders in which a set is made, and publish the set at the end of the `with` block.

    At the end of the block, `set_folder` is renamed to `directory`. If the block raises an error,
    nothing is published, and finished shards are kept for the next build.

    Args:
        directory: The folder of the set; its parent folders are made if needed.
        identity: A digest of everything on which the bytes of the set depend.

    Raises:
        UserError: `directory` exists before the block or at its end; another process builds the
            set; finished shards of another identity are there; or the system refuses to read or
            write (disk full, no permission).
    """
    directory = Path(os.path.abspath(directory))
    refuse_existing(directory, OUTPUT_KIND)
    partial = _partial(directory)
    work = Workplace(partial / "set", partial / "parts")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _locked(directory, LOCK_WAIT_S):
            try:
                # Another build may have published the set while this build waited for the lock.
                refuse_existing(directory, OUTPUT_KIND)
                _take_over(partial, work, identity)
                yield work
                sync(work.set_folder)
                refuse_existing(directory, OUTPUT_KIND)
                publish_folder(work.set_folder, directory)
                # If the process is killed before this line, `remove_leftovers` does it later.
                _remove(partial)
            except BaseException as error:
                # The folder is kept for the next build only if it has finished shards.
                finished = len(list(work.parts_folder.glob("*.json")))
                if not finished:
                    _remove(partial)
                elif isinstance(error, KeyboardInterrupt):
                    kept = f"{directory}: shards that are finished are kept: {finished}"
                    error.add_note(f"{kept}; the same command goes on")
                raise
    except OSError as error:
        raise UserError(f"{directory}: not built: {error}") from error


def remove_leftovers(directory: Path) -> None:
    """Remove the hidden folder of a build that was killed just after it published `directory`."""
    partial = _partial(Path(os.path.abspath(directory)))
    if os.path.lexists(directory) and partial.is_dir():
        with contextlib.suppress(UserError, OSError), _locked(directory, wait_s=0):
            _remove(partial)


def _remove(partial: Path) -> None:
    """Remove the hidden folder of a build.

    The identity file is removed after the parts, because parts without an identity would look like
    parts of another request. The lock file is removed last, so that a process that waits for the
    lock finds an empty folder.
    """
    shutil.rmtree(partial / "parts", ignore_errors=True)
    shutil.rmtree(partial / "set", ignore_errors=True)
    if (partial / "parts").exists():
        return  # Some parts could not be removed; the next build of the set tries again.
    for name in (IDENTITY_FILE_NAME, LOCK_FILE_NAME):
        with contextlib.suppress(OSError):
            (partial / name).unlink()
    with contextlib.suppress(OSError):
        partial.rmdir()


def _partial(directory: Path) -> Path:
    return directory.parent / f".{directory.name}.partial"


def _take_over(partial: Path, work: Workplace, identity: str) -> None:
    """Prepare the hidden folder: keep the files of an earlier build if its identity is the same.

    Files of an earlier build with another identity are removed if it has no finished shard.

    Raises:
        UserError: There are finished shards of another identity.
    """
    path = partial / IDENTITY_FILE_NAME
    if not path.is_file() or path.read_text() != identity:
        finished = len(list(work.parts_folder.glob("*.json")))
        if finished:
            raise UserError(
                f"{partial}: {finished} finished shards of another request, of other versions or "
                "of a source that changed since; remove this folder to begin anew"
            )
        for entry in partial.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK_FILE_NAME:
                entry.unlink()
        write_file(path, [identity.encode()])
    # The folders may be missing: an earlier build may have been killed while it published the set,
    # and the set may have been removed later.
    work.set_folder.mkdir(exist_ok=True)
    work.parts_folder.mkdir(exist_ok=True)


@contextlib.contextmanager
def _locked(directory: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock on the hidden folder in which `directory` is made (see `locked`).

    Args:
        directory: The folder of the set.
        wait_s: Seconds to wait for the lock.

    Raises:
        UserError: Another process holds the lock.
    """
    partial = _partial(directory)
    try:
        with locked(partial, f"{directory} is being built", wait_s):
            yield
    finally:
        # Some network file systems keep a removed file until no process has it open.
        with contextlib.suppress(OSError):
            partial.rmdir()
