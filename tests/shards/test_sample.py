"""The images that come with the repository, and the command that remakes them."""

import gzip
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from shards.sample import remake
from shards.sources.idx import open_idx
from tests.support.commands import run_command
from tests.support.paths import SAMPLE
from tests.support.shard_cases import assert_user_error, contents

NAMES = [
    f"{stem}-{kind}-ubyte.gz"
    for stem in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
]


def test_content_of_the_sample() -> None:
    train, test = open_idx(SAMPLE, "train"), open_idx(SAMPLE, "test")
    assert np.bincount(train.labels).tolist() == [0, 0, 0, 0, 0, 2048, 0, 2048, 0, 2048]
    assert np.bincount(test.labels).tolist() == [300] * 10
    images = [source.read(i).tobytes() for source in (train, test) for i in range(len(source))]
    assert len(set(images)) == len(images) == 9144


def test_files_are_small_reproducible_and_those_of_the_readme() -> None:
    readme = (SAMPLE / "README.md").read_text()
    for name in NAMES:
        data = (SAMPLE / name).read_bytes()
        assert data[3:8] == bytes(5), f"{name}: a file name or a time in the gzip header"
        for content in (data, gzip.decompress(data)):
            assert hashlib.sha256(content).hexdigest() in readme
    assert sum((SAMPLE / name).stat().st_size for name in NAMES) < 6_000_000
    assert "Copyright (c) 2017 Zalando SE" in (SAMPLE / "LICENSE").read_text()
    assert len(re.findall(r"`[0-9a-f]{64}`", readme)) == 8


def test_first_of_each_class() -> None:
    labels = np.array([1, 0, 2, 1, 1, 0, 0, 1])
    assert remake.first_of_each_class(labels, (0, 1), 2).tolist() == [0, 1, 3, 5]
    assert remake.first_of_each_class(labels, (0, 1), 2, skip=2).tolist() == [4, 6, 7]


@pytest.fixture
def official(tmp_path: Path, monkeypatch) -> tuple[Path, dict[str, np.ndarray]]:
    """Files like the official ones: 2,400 training and 310 test images a class, of 2 x 2 px."""
    rng = np.random.default_rng(0)
    arrays = {}
    for stem, count in (("train", 2400), ("t10k", 310)):
        labels = rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), count))
        first = 0 if stem == "train" else 1 << 24
        numbers = np.arange(first, first + len(labels)).astype(">u4")
        arrays[f"{stem}-images-idx3-ubyte"] = numbers.view(np.uint8).reshape(-1, 2, 2)
        arrays[f"{stem}-labels-idx1-ubyte"] = labels
    folder = tmp_path / "official"
    folder.mkdir()
    for name, array in arrays.items():
        data = remake.unpacked(array)
        (folder / f"{name}.gz").write_bytes(gzip.compress(data, 1))
        monkeypatch.setitem(remake.OFFICIAL_SHA256, name, hashlib.sha256(data).hexdigest())
    return folder, arrays


def numbers(folder: Path, split: str) -> dict[int, list[int]]:
    """Return label -> numbers of its images, which their pixels hold, in the order of the file."""
    source = open_idx(folder, split)
    found: dict[int, list[int]] = {}
    for i in range(len(source)):
        number = int.from_bytes(source.read(i).tobytes(), "big")
        found.setdefault(int(source.labels[i]), []).append(number)
    return found


def test_selection_of_both_parts(official, tmp_path: Path) -> None:
    folder, arrays = official
    of_class = {
        stem: {c: np.flatnonzero(arrays[f"{stem}-labels-idx1-ubyte"] == c) for c in range(10)}
        for stem in ("train", "t10k")
    }
    remake.remake(remake.RemakeRequest(folder, tmp_path / "sample"))
    remake.remake(remake.RemakeRequest(folder, tmp_path / "validation", "validation"))
    for part in ("sample", "validation"):
        train = numbers(tmp_path / part, "train")
        assert train == {c: of_class["train"][c][:2048].tolist() for c in (5, 7, 9)}
    test = numbers(tmp_path / "sample", "test")
    assert test == {c: ((1 << 24) + of_class["t10k"][c][:300]).tolist() for c in range(10)}
    held_out = numbers(tmp_path / "validation", "test")
    assert held_out == {c: of_class["train"][c][2048:2348].tolist() for c in range(10)}


def test_remaking_gives_the_same_bytes_from_unpacked_files_too(official, tmp_path: Path) -> None:
    folder, arrays = official
    remake.main(["--src", str(folder), "--out", str(tmp_path / "a")])
    for name, array in arrays.items():
        (folder / f"{name}.gz").unlink()
        (folder / name).write_bytes(remake.unpacked(array))
    remake.main(["--src", str(folder), "--out", str(tmp_path / "b")])
    remake.main(["--src", str(folder), "--out", str(tmp_path / "b")])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    for data in contents(tmp_path / "a").values():
        assert data[3:8] == bytes(5), "a file name or a time in the gzip header"


@pytest.mark.slow
def test_other_files_than_the_official_are_refused(tmp_path: Path) -> None:
    result = run_command("-m", "shards.sample.remake", "--src", SAMPLE, "--out", tmp_path / "x")
    assert_user_error(result, "train-images-idx3-ubyte.gz: not the official file")
    assert not (tmp_path / "x").exists()


def test_the_validation_part_does_not_replace_the_sample(official, tmp_path: Path) -> None:
    folder, _ = official
    remake.remake(remake.RemakeRequest(folder, tmp_path / "out"))
    before = contents(tmp_path / "out")
    with pytest.raises(remake.UserError, match="t10k-images-idx3-ubyte.gz: exists with another"):
        remake.remake(remake.RemakeRequest(folder, tmp_path / "out", "validation"))
    assert contents(tmp_path / "out") == before
