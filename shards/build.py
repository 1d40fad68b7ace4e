"""Builds a shard set: `python -m shards.build --source folder --src DIR --size-px 32 --out DIR`.

source -> selection -> seeded global shuffle -> decode, resize -> tars, indexes, names, manifest.
The same request gives the same bytes with any number of workers, in one go or in several.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from shards import cli
from shards.cli import UserError
from shards.convert import Chunk, convert
from shards.disk import write_file
from shards.manifest import (
    FILE_NAME,
    NAMES_FILE_NAME,
    REJECTS_FILE_NAME,
    Manifest,
    SourceFile,
    shard_file,
    to_json,
)
from shards.plan import BuildRequest, Plan, plan
from shards.progress import ImageProgress
from shards.provenance import describe, describe_folder
from shards.publish import Part, Workplace, refuse_existing, remove_leftovers, workplace
from shards.sources.registry import FORMATS
from shards.tally import Tally
from shards.writer import ShardWriter

CHUNK_SAMPLES = 128
"""Samples that a thread makes ready at a time."""
CHUNKS_AHEAD = 3
"""Chunks for each thread that wait for it, or to be written."""


def build(request: BuildRequest) -> Manifest:
    """Build the set and return its manifest; `request.out` appears whole or not at all.

    Finished shards of a build that was killed or failed are taken over.

    Raises:
        UserError: the output exists, the request does not fit the source, too many images cannot
            be decoded, another process builds the set, or the system refuses to read or write.
    """
    remove_leftovers(request.out)
    refuse_existing(request.out)
    planned = plan(request)
    with workplace(request.out, planned.identity) as work:
        with ThreadPoolExecutor(2) as background:
            described = background.submit(_describe, request, planned)
            if "md5" in planned.manifest.checks:
                described.result()
            parts = _build_shards(request, planned, work, background)
            sources, unselected = described.result()
        return _assemble(planned, work, sources, [Part(None, unselected), *parts])


def _describe(request: BuildRequest, planned: Plan) -> tuple[tuple[SourceFile, ...], Tally]:
    """The source's files, and of a folder the images that the set does not take."""
    source, unselected = planned.source, Tally()
    published = FORMATS[request.source].md5 if request.md5 else {}
    files = [describe(path, published.get(path.name)) for path in source.paths if not path.is_dir()]
    if planned.folder is not None:
        for index in np.setdiff1d(np.arange(len(source)), planned.order).tolist():
            data = source.read(index)
            assert isinstance(data, bytes)
            unselected.note_file(source.name(index), data)
    return tuple(files), unselected


def _build_shards(
    request: BuildRequest, planned: Plan, work: Workplace, background: ThreadPoolExecutor
) -> list[Part]:
    """Write the shards that are not finished; returns the notes of all."""
    parts = {number: work.part(number) for number in sorted(work.finished())}
    numbers = [number for number in range(planned.shards) if number not in parts]
    budget = RejectBudget(planned.max_rejects, request.src)
    progress = ImageProgress(planned.manifest.name, len(planned.order))
    with progress, contextlib.closing(_converted(planned, numbers, request.workers)) as chunks:
        for part in parts.values():
            budget.spend(part.tally.rejects)
            progress.skip(part.tally.images)
        finishing: dict[int, Future[Part]] = {}
        for number in numbers:
            of_shard = itertools.islice(chunks, len(planned.places(number)[::CHUNK_SAMPLES]))
            watched = _watched(of_shard, budget, progress)
            finish = _write_shard(planned.manifest, work, number, watched)
            for earlier in finishing.values():
                earlier.result()
            finishing[number] = background.submit(finish)
        parts |= {number: part.result() for number, part in finishing.items()}
    return [parts[number] for number in range(planned.shards)]


class RejectBudget:
    """Fails a build that rejects too much, rather than make a small set of it."""

    def __init__(self, max_rejects: int, src: object) -> None:
        """At most `max_rejects` images of `src` may be bad."""
        self._max_rejects = max_rejects
        self._src = src
        self._first: list[str] = []
        self.rejects = 0

    def spend(self, rejects: Sequence[dict[str, str]]) -> None:
        """Count rejects; a `UserError` that names the first of all when there are too many."""
        self.rejects += len(rejects)
        self._first += [f"{r['name']} ({r['reason']})" for r in rejects[: 3 - len(self._first)]]
        if self.rejects > self._max_rejects:
            raise UserError(
                f"{self._src}: {self.rejects} images are bad, max_rejects_pct allows "
                f"{self._max_rejects}: {', '.join(self._first)}"
            )


def _converted(planned: Plan, numbers: Sequence[int], workers: int) -> Generator[Chunk]:
    """What the shards `numbers` hold, chunk by chunk, in order; some chunks are made ahead."""
    source = planned.source
    pending: collections.deque[Future[Chunk]] = collections.deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number in numbers:
                places = planned.places(number)
                for first in places[::CHUNK_SAMPLES]:
                    indexes = planned.order[first : min(first + CHUNK_SAMPLES, places.stop)]
                    task = source, indexes, first, planned.target
                    pending.append(pool.submit(convert, *task, digest=planned.folder is not None))
                    if len(pending) > CHUNKS_AHEAD * workers:
                        yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _watched(
    chunks: Iterable[Chunk], budget: RejectBudget, progress: ImageProgress
) -> Iterator[Chunk]:
    for chunk in chunks:
        budget.spend(chunk.tally.rejects)
        yield chunk
        progress.advance(chunk.tally.images, budget.rejects)


def _write_shard(
    manifest: Manifest, work: Workplace, number: int, chunks: Iterable[Chunk]
) -> Callable[[], Part]:
    """Write a tar; what is returned waits for the disk, and notes that the shard is finished."""
    path = work.set_folder / shard_file(manifest.name, manifest.split, number)
    writer = ShardWriter(path)
    tally = Tally()
    with contextlib.ExitStack() as on_error:
        on_error.callback(writer.close)
        for chunk in chunks:
            if chunk.packed is not None:
                writer.add(chunk.packed)
            tally.add(chunk.tally)
        on_error.pop_all()

    def finish() -> Part:
        if tally.names:
            part = Part(writer.finish(), tally)
        else:
            writer.close()
            path.unlink()
            part = Part(None, tally)
        work.finish(number, part)
        return part

    return finish


def _assemble(
    planned: Plan, work: Workplace, sources: tuple[SourceFile, ...], parts: Sequence[Part]
) -> Manifest:
    """Write what is beside the tars; the manifest last."""
    tally = Tally()
    for part in parts:
        tally.add(part.tally)
    if not tally.names:
        raise UserError(f"{planned.source.paths[0]}: all {tally.images} images are bad")
    if planned.folder is not None:
        sources = (describe_folder(planned.folder, tally.read_bytes, tally.digest), *sources)
    manifest = dataclasses.replace(
        planned.manifest,
        samples=len(tally.names),
        resize=planned.target.resize if tally.resized else "none",
        sources=sources,
        rejects=len(tally.rejects),
        rejects_sha256=_write_list(work, REJECTS_FILE_NAME, tally.rejects),
        names_sha256=_write_list(work, NAMES_FILE_NAME, tally.names),
        shards=tuple(part.shard for part in parts if part.shard is not None),
    )
    write_file(work.set_folder / FILE_NAME, [to_json(manifest).encode()])
    return manifest


def _write_list(work: Workplace, file_name: str, values: Sequence[object]) -> str:
    """Write a file of JSON lines, if there are any, and return its sha256."""
    if not values:
        return ""
    lines = json_lines(values)
    write_file(work.set_folder / file_name, [lines])
    return hashlib.sha256(lines).hexdigest()


def json_lines(values: Sequence[object]) -> bytes:
    """One line of JSON for each value.

    ASCII only, so that any file name (line breaks, bytes that are not UTF-8) comes back as it was.
    """
    if all(isinstance(value, str) for value in values):
        # One call for all of them: there may be a million names.
        text = json.dumps(values, separators=("\n", ":"))[1:-1]
    else:
        text = "\n".join(json.dumps(value) for value in values)
    return (text + "\n").encode("ascii")


def summary(manifest: Manifest) -> str:
    """A set in a few words."""
    height, width, channels = manifest.sample_shape
    mega_bytes = sum(shard.bytes for shard in manifest.shards) / 1e6
    text = (
        f"{manifest.samples} samples of {height}x{width}x{channels} "
        f"in {len(manifest.shards)} shards, {mega_bytes:.1f} MB"
    )
    if manifest.rejects:
        text += f", {manifest.rejects} bad images left out ({REJECTS_FILE_NAME})"
    if manifest.excluded:
        text += f", {manifest.excluded} excluded"
    return text


def main(argv: Sequence[str] | None = None) -> None:
    """Build one set and print one line about it."""
    request = cli.parse(BuildRequest, argv, description="Build a shard set.")
    print(f"{request.out}: {summary(build(request))}")


if __name__ == "__main__":
    cli.run(main)
