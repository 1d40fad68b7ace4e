"""Build a shard set: `python -m shards.build --source folder --src DIR --size-px 32 --out DIR`.

The steps are: open the source, select images, shuffle all of them with a seed, decode, resize, and
write tars, indexes, names and the manifest. The same request gives the same bytes with any number
of workers, and also when the build is interrupted and started again.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from shards.building.build_plan import BuildRequest, Plan, plan
from shards.building.convert import Chunk, convert
from shards.building.provenance import MD5, describe_folder
from shards.building.source_files import describe_source
from shards.building.tally import RejectBudget, Tally
from shards.building.workplace import OUTPUT_KIND, Part, Workplace, remove_leftovers, workplace
from shards.disk.publish import refuse_existing, write_file
from shards.errors import UserError, printable
from shards.format.json_lines import ListWriter
from shards.format.source_sizes import shape_note, write_sizes
from shards.format.writer import ShardWriter
from shards.manifest import (
    FILE_NAME,
    NAMES_FILE_NAME,
    REJECTS_FILE_NAME,
    SIZES_FILE_NAME,
    Manifest,
    Shard,
    SourceFile,
    shard_file,
)
from shards.manifest_file import to_json
from shards.sources.kinds import told
from shards.terminal import cli, printing
from shards.terminal.progress import ImageProgress, waiting

CHUNK_SAMPLES = 128
"""The largest number of samples in a chunk, which one thread converts at a time. A chunk of large
samples has fewer of them (see `CHUNK_BYTES`)."""
CHUNK_BYTES = 16 << 20
"""The largest size of a chunk, in bytes of pixels."""
CHUNKS_AHEAD = 3
"""The number of chunks per thread that may wait to be converted or to be written."""
SEVERAL = "all but the first picture of a file (files)"
"""The key in `Manifest.passed_over` under which files with several pictures are counted, such as
animations and TIFF files with several pages."""


def build(request: BuildRequest) -> Manifest:
    """Build a shard set in the folder `request.out` and return its manifest.

    The folder appears only when the set is complete. If an earlier build of the same set was killed
    or failed, its finished shards are used again.

    Raises:
        UserError: `request.out` exists; the request does not fit the source; too many images cannot
            be decoded; the source changes during the build; another process builds the same set; an
            unfinished build of another request left finished shards; or the system refuses to read
            or write.
    """
    remove_leftovers(request.out)
    refuse_existing(request.out, OUTPUT_KIND)
    planned = plan(request)
    # The event is set when the work of the threads is not needed any more.
    stopped = threading.Event()
    with workplace(request.out, planned.identity) as work, ThreadPoolExecutor(2) as background:
        try:
            described = background.submit(describe_source, request, planned, stopped)
            if MD5 in planned.manifest.checks:
                with waiting(f"checking the md5 of {request.src}"):
                    described.result()
            _build_shards(request, planned, work, background, stopped)
            with waiting(f"digesting {request.src}"):
                sources, unselected, checks = described.result()
            planned.refuse_changed_source()
            return _assemble(planned, work, sources, unselected, checks)
        except BaseException:
            stopped.set()
            raise


def _build_shards(
    request: BuildRequest,
    planned: Plan,
    work: Workplace,
    background: ThreadPoolExecutor,
    stopped: threading.Event,
) -> None:
    """Write the shards that an earlier, interrupted build has not finished."""
    budget = RejectBudget(planned.max_rejects, request.src)
    progress = ImageProgress(planned.manifest.name, len(planned.order))
    finished = work.finished()
    for number in finished:
        tally = work.part(number).tally
        budget.spend(tally.rejects)
        progress.skip(tally.images)
    if finished:
        there = f"{len(finished)} of {planned.shards} shards are there already"
        print(printable(f"{request.out}: {there}"), file=sys.stderr)
    numbers = [number for number in range(planned.shards) if number not in finished]
    chunk_samples = max(1, min(CHUNK_SAMPLES, CHUNK_BYTES // planned.target.sample_bytes))
    chunks = _converted(planned, numbers, chunk_samples, request.workers, stopped)
    finishing: Future[None] | None = None
    try:
        with progress:
            for number in numbers:
                of_shard = itertools.islice(chunks, len(planned.places(number)[::chunk_samples]))
                watched = _watched(of_shard, budget, progress)
                finish = _write_shard(planned.manifest, work, number, watched)
                if finishing is not None:
                    finishing.result()
                finishing = background.submit(finish)
            if finishing is not None:
                finishing.result()
    except BaseException:
        # This must come before `close`, which waits for the threads.
        stopped.set()
        raise
    finally:
        chunks.close()


def _converted(
    planned: Plan,
    numbers: Sequence[int],
    chunk_samples: int,
    workers: int,
    stopped: threading.Event,
) -> Generator[Chunk]:
    """Yield the converted chunks of the shards `numbers`, in order; threads work ahead."""
    source, digest = planned.source, planned.folder is not None
    pending: collections.deque[Future[Chunk]] = collections.deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number in numbers:
                places = planned.places(number)
                for first in places[::chunk_samples]:
                    indexes = planned.order[first : min(first + chunk_samples, places.stop)]
                    task = source, indexes, first, planned.target, stopped
                    pending.append(pool.submit(convert, *task, digest=digest))
                    if len(pending) > CHUNKS_AHEAD * workers:
                        yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except (Exception, KeyboardInterrupt):
            # This must come before the end of the pool, which waits for its threads.
            stopped.set()
            raise
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
) -> Callable[[], None]:
    """Write chunks into the tar of shard `number`.

    Returns:
        A function that the caller must call: it waits until the tar is on the disk, and then
        records that the shard is finished.
    """
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

    def finish() -> None:
        if tally.names:
            work.finish(number, Part(writer.finish(), tally))
        else:
            writer.close()
            path.unlink()
            work.finish(number, Part(None, tally))

    return finish


def _assemble(
    planned: Plan,
    work: Workplace,
    sources: tuple[SourceFile, ...],
    tally: Tally,
    checks: tuple[str, ...],
) -> Manifest:
    """Write all files of a set except its tars and indexes; the manifest is written last.

    Args:
        planned: The plan of the build.
        work: The folder with the finished shards.
        sources: The entries of the source's files in the manifest.
        tally: The total size and checksum of a folder's images that the set does not take.
        checks: The value of `Manifest.checks`.
    """
    names = ListWriter(work.set_folder / NAMES_FILE_NAME)
    rejects = ListWriter(work.set_folder / REJECTS_FILE_NAME)
    sizes: list[np.ndarray] = []
    shards: list[Shard] = []
    for number in range(planned.shards):
        part = work.part(number)
        if part.shard is not None:
            shards.append(part.shard)
        sizes.append(np.array(part.tally.sizes, np.uint32).reshape(-1, 2))
        names.add(part.tally.names)
        rejects.add(part.tally.rejects)
        # Names and sizes are left out: there may be a million of them, and they are handled above.
        tally.add(dataclasses.replace(part.tally, names=[], sizes=[]))
    in_source = np.concatenate(sizes)
    if not len(in_source):
        raise UserError(f"{planned.source.paths[0]}: all {len(tally.rejects)} images are bad")
    if planned.folder is not None:
        sources = (describe_folder(planned.folder, tally.read_bytes, tally.digest), *sources)
    resized = (in_source != planned.target.size_px).any()
    if note := shape_note(in_source, planned.target.resize):
        printing.tell(f"note: {planned.source.paths[0]}: {note}")
    passed_over = dict(planned.manifest.passed_over)
    if tally.several:
        passed_over[SEVERAL] = tally.several
    manifest = dataclasses.replace(
        planned.manifest,
        samples=len(in_source),
        resize=planned.target.resize if resized else "none",
        sources=sources,
        checks=checks,
        rejects=len(tally.rejects),
        rejects_sha256=rejects.finish(),
        names_sha256=names.finish(),
        shards=tuple(shards),
        sizes_sha256=write_sizes(work.set_folder / SIZES_FILE_NAME, in_source) if resized else "",
        passed_over=passed_over,
    )
    write_file(work.set_folder / FILE_NAME, [to_json(manifest).encode()])
    return manifest


def summary(manifest: Manifest) -> str:
    """Return a description of a set in one line."""
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
    if manifest.passed_over:
        text += f", passed over {told(manifest.passed_over)}"
    return text


def main(argv: Sequence[str] | None = None) -> None:
    """Build one set and print one line about it."""
    request = cli.parse(BuildRequest, argv, description="Build a shard set.")
    print(printable(f"{request.out}: {summary(build(request))}"))


if __name__ == "__main__":
    cli.run(main)
