"""Tiny shard sets, their bytes, and how a user's mistake is told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from shards.build import build
from shards.building.build_plan import BuildRequest
from tests.support.paths import SAMPLE


def random_images(count: int, size_px: int = 6, channels: int = 3, seed: int = 0) -> np.ndarray:
    """uint8 [count,size_px,size_px,channels]; no two images are equal."""
    shape = (count, size_px, size_px, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def npy_set(folder: Path, count: int = 23, shard_samples: int = 10, **fields: object) -> Path:
    """An unlabelled set of random images, in several shards; returns its directory."""
    np.save(folder / "images.npy", random_images(count))
    request = BuildRequest(
        source="npy",
        src=folder / "images.npy",
        split="train",
        size_px=6,
        out=folder / "set",
        shard_samples=shard_samples,
    )
    request = BuildRequest(**{**vars(request), **fields})  # type: ignore[arg-type]
    build(request)
    return request.out


def sample_set(out: Path, **fields: object) -> Path:
    """A labelled set of 900 test images of the repository's sample, in three shards."""
    request = BuildRequest(
        source="idx",
        src=SAMPLE,
        split="test",
        size_px=28,
        out=out,
        labels=(5, 7, 9),
        shard_samples=400,
    )
    build(BuildRequest(**{**vars(request), **fields}))  # type: ignore[arg-type]
    return out


def image_folder(folder: Path, count: int = 9) -> Path:
    """PNGs of several sizes in three class folders."""
    for i in range(count):
        path = folder / f"class{i % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_images(1, size_px=5 + i % 4, seed=i)[0]).save(path)
    return folder


def folder_request(src: Path, out: Path, **fields: object) -> BuildRequest:
    request = BuildRequest("folder", src, size_px=6, out=out, shard_samples=4)
    return BuildRequest(**{**vars(request), **fields})  # type: ignore[arg-type]


def folder_with_bad_images(folder: Path, good: int = 9) -> Path:
    """As `image_folder`, and a picture that is a web page and one that is cut."""
    image_folder(folder, good)
    (folder / "class1" / "page.jpg").write_bytes(b"<html>")
    data = (folder / "class0" / "0.png").read_bytes()
    (folder / "class2" / "cut.png").write_bytes(data[:60])
    return folder


def contents(directory: Path) -> dict[str, bytes]:
    """File name -> bytes of all files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def assert_user_error(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """The command failed as a user's mistake does: status 2, one line that has all `words`."""
    assert result.returncode == 2, result
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
