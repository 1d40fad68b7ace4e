"""What other libraries read in the tars of a set: tarfile, webdataset and DALI's own reader.

`python -m tests.faults.readers DIR EXTENSION FILE` saves an epoch as DALI decodes it.
"""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from nvidia.dali import fn, pipeline_def, types


def in_tarfile(out: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of all members, tar by tar."""
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None, member
                yield member.name, file.read()


def images_in_tarfile(out: Path, extension: str) -> list[bytes]:
    """The images of all samples, in order."""
    return [data for name, data in in_tarfile(out) if name.endswith(f".{extension}")]


def images_in_webdataset(out: Path, extension: str) -> list[bytes]:
    """The images of all samples, in order."""
    urls = [str(path) for path in sorted(out.glob("*.tar"))]
    samples = webdataset.WebDataset(urls, shardshuffle=False, handler=webdataset.reraise_exception)
    return [sample[extension] for sample in samples]


def images_in_dali(out: Path, extension: str, rank: int = 0, world_size: int = 1) -> list[bytes]:
    """The images that one of several ranks reads in an epoch."""
    pipeline = _reader(out, extension, rank, world_size, batch_size=1)
    samples = _rank_samples(pipeline, rank, world_size)
    return [bytes(np.asarray(pipeline.run()[0][0])) for _ in range(samples)]


def decoded_by_dali(out: Path, extension: str) -> np.ndarray:
    """All images as DALI decodes them in one epoch over all tars, uint8 [N,H,W,3].

    Raises:
        RuntimeError: DALI cannot decode one; it may also crash.
    """
    pipeline = _reader(out, extension, 0, 1, batch_size=64, decode=True)
    decoded: list[np.ndarray] = []
    samples = _rank_samples(pipeline, 0, 1)
    while len(decoded) < samples:
        decoded += [np.array(image) for image in pipeline.run()[0]]
    return np.stack(decoded[:samples])


def _reader(
    out: Path, extension: str, rank: int, world: int, batch_size: int, decode: bool = False
) -> Any:
    tars = sorted(out.glob("*.tar"))

    @pipeline_def(batch_size=batch_size, num_threads=2, device_id=None, prefetch_queue_depth=1)
    def reader() -> Any:
        images = fn.readers.webdataset(
            paths=[str(path) for path in tars],
            index_paths=[str(path.with_suffix(".idx")) for path in tars],
            ext=[extension],
            missing_component_behavior="error",
            shard_id=rank,
            num_shards=world,
            name="reader",
        )
        if decode:
            images = fn.decoders.image(images, output_type=types.DALIImageType.RGB)
        return images

    pipeline = reader()
    pipeline.build()
    return pipeline


def _rank_samples(pipeline: Any, rank: int, world: int) -> int:
    """DALI gives rank r the samples from N * r / world on."""
    total = pipeline.reader_meta("reader")["epoch_size"]
    return total * (rank + 1) // world - total * rank // world


if __name__ == "__main__":
    np.save(sys.argv[3], decoded_by_dali(Path(sys.argv[1]), sys.argv[2]))
