"""What several drills need: sources, builds in processes that may be made to fail, digests."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.support.commands import server
from tests.support.shard_cases import random_images


@dataclass(frozen=True)
class Outcome:
    """How a build ended."""

    status: int
    """Of the exit; minus the number of the signal that ended it."""
    output: str
    """What it printed, to stdout and stderr."""

    @property
    def is_clean_failure(self) -> bool:
        """Status 2 and one line, as for any mistake of a user."""
        return (
            self.status == 2
            and self.output.startswith("error: ")
            and self.output.count("\n") == 1
            and "Traceback" not in self.output
        )


class Builder:
    """Builds sets in forked processes (see child.py)."""

    def __init__(self, folder: Path) -> None:
        """Output of the processes goes to a file in `folder`."""
        self._output = folder / "output.txt"
        self._log = folder / "calls.json"

    def run(self, argv: Sequence[str], **faults: object) -> Outcome:
        """Build by the command line `argv`."""
        self._output.unlink(missing_ok=True)
        job = {"entry": "tests.faults.child:run", "output": str(self._output), **faults}
        server().start({**job, "argv": list(argv)})
        return Outcome(server().wait(), self._output.read_text("utf-8", "replace"))

    def calls(self, argv: Sequence[str]) -> tuple[dict[str, int], list[list[str]]]:
        """How often an undisturbed build calls each function that changes the disk; and its log."""
        outcome = self.run(argv, log=str(self._log))
        assert outcome.status == 0, outcome
        found = json.loads(self._log.read_text())
        return found["counts"], found["log"]


@dataclass(frozen=True)
class Source:
    """A source of images, and how a set is built of it."""

    name: str
    options: dict[str, object]

    def argv(self, out: Path, **options: object) -> list[str]:
        """The command line that builds it as `out`."""
        all_options = {**self.options, **options, "out": out}
        return [
            text
            for name, value in all_options.items()
            for text in (f"--{name.replace('_', '-')}", str(value))
        ]


def npy_source(folder: Path, count: int = 700, shard_samples: int = 300) -> Source:
    """Random images; by default three shards, of several writes each."""
    path = folder / "images.npy"
    np.save(path, random_images(count))
    return Source("npy", dict(source="npy", src=path, size_px=6, shard_samples=shard_samples))


def jpeg_source(
    folder: Path, count: int = 500, size_px: int = 20, shard_samples: int = 200, bad: int = 5
) -> Source:
    """Labelled JPEGs, some of them not images."""
    src = folder / "jpegs"
    for name in ("cat", "dog"):
        (src / name).mkdir(parents=True)
    for i, data in zip(range(count), photograph_files(size_px, "JPEG", seed=1), strict=False):
        (src / ("cat", "dog")[i % 2] / f"{i:05d}.jpg").write_bytes(data)
    for i in range(bad):
        (src / "cat" / f"bad-{i}.jpg").write_bytes(b"<html>" * i)
    return Source(
        "jpeg",
        dict(
            source="class-folders",
            src=src,
            size_px=16,
            shard_samples=shard_samples,
            max_rejects_pct=5,
        ),
    )


def photographs(size_px: int, seed: int) -> Iterator[Image.Image]:
    """Endless pieces of scikit-learn's two photographs, `size_px` squared, no two alike."""
    rng = np.random.default_rng([9, seed])
    whole = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for i in itertools.count():
        side = rng.uniform(0.2, 0.9) * whole[i % 2].height
        left = rng.uniform(0, whole[i % 2].width - side)
        top = rng.uniform(0, whole[i % 2].height - side)
        box = (left, top, left + side, top + side)
        yield whole[i % 2].resize((size_px, size_px), Image.Resampling.BICUBIC, box)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file of Pillow's format `kind`."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photograph_files(size_px: int, kind: str, seed: int) -> Iterator[bytes]:
    """Such pieces as files."""
    return (encoded(image, kind) for image in photographs(size_px, seed))


def digests(folder: Path) -> dict[str, str]:
    """File name -> sha256 of all files of a folder."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }
