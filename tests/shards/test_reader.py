"""Reads by id give what `tarfile` reads; a tar that changes while it is read is an error."""

import errno
import gzip
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.errors import UserError
from shards.reader import ShardSet
from tests.support.paths import SAMPLE
from tests.support.shard_cases import npy_set, random_images, sample_set


def by_tarfile(directory: Path) -> tuple[list[bytes], list[int]]:
    """Return the pixels and labels of all samples by id, read by `tarfile`."""
    pixels: list[bytes] = []
    labels: list[int] = []
    for path in sorted(directory.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                data = tar.extractfile(member).read()
                if member.name.endswith(".bin"):
                    pixels.append(data)
                else:
                    labels.append(int(data))
    return pixels, labels


def test_reads_what_tarfile_reads(tmp_path: Path) -> None:
    directory = sample_set(tmp_path / "set")
    pixels, labels = by_tarfile(directory)
    with ShardSet.open(directory) as shards:
        assert (len(shards), shards.directory, shards.manifest.samples) == (900, directory, 900)
        for ids in (np.arange(900), np.array([899, 0, 400, 399, 400, 799, 800]), np.arange(3)[:0]):
            read = shards.read(ids)
            assert (read.dtype, read.shape) == (np.uint8, (len(ids), 28, 28, 1))
            assert read.flags.writeable
            assert [image.tobytes() for image in read] == [pixels[i] for i in ids]
            assert shards.labels(ids).dtype == np.int64
            assert shards.labels(ids).tolist() == [labels[i] for i in ids]
        rows = [int(name) for name in shards.names()]
    data = gzip.decompress((SAMPLE / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    assert [data[784 * row : 784 * (row + 1)] for row in rows] == pixels


@pytest.mark.parametrize("encoding", ["png", "jpg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_encoded_images_are_read_as_pillow_decodes_them(
    tmp_path: Path, encoding: str, channels: int
) -> None:
    directory = npy_set(tmp_path, encoding=encoding, channels=channels)
    with ShardSet.open(directory) as shards:
        read = shards.read(np.arange(23))
    names = []
    for path in sorted(directory.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                image = Image.open(tar.extractfile(member))
                assert np.array_equal(read[len(names)], np.asarray(image).reshape(6, 6, channels))
                names.append(member.name)
    assert names == [f"{key:09d}.{encoding}" for key in range(23)]


def test_an_encoded_image_that_is_damaged_is_named(tmp_path: Path) -> None:
    directory = npy_set(tmp_path, encoding="png")
    path = directory / "set-train-00001.tar"
    with tarfile.open(path) as tar:
        offset = tar.getmember("000000012.png").offset_data
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"x" * 40)
    with ShardSet.open(directory) as shards:
        assert shards.read(np.array([11, 13])).shape == (2, 6, 6, 3)
        with pytest.raises(UserError, match="set-train-00001.tar: 000000012 cannot be decoded"):
            shards.read(np.array([11, 12]))


def test_a_batch_is_not_overwritten_by_the_next(tmp_path: Path) -> None:
    with ShardSet.open(npy_set(tmp_path)) as shards:
        first = shards.read(np.arange(5))
        kept = first.copy()
        shards.read(np.arange(5, 10))
        assert np.array_equal(first, kept)
        labels_error = pytest.raises(UserError, match="unlabelled")
        with labels_error:
            shards.labels(np.arange(2))


@pytest.mark.parametrize("ids", [[-1], [23], [0, 5, 2**40]])
def test_ids_out_of_range(tmp_path: Path, ids: list[int]) -> None:
    with ShardSet.open(npy_set(tmp_path)) as shards, pytest.raises(IndexError, match="0 to 22"):
        shards.read(np.array(ids))


@pytest.mark.parametrize("ids", [np.array([0.0]), np.array([[0]]), np.array([True])])
def test_ids_that_are_not_ids(tmp_path: Path, ids: np.ndarray) -> None:
    with ShardSet.open(npy_set(tmp_path)) as shards, pytest.raises(TypeError, match="ids are"):
        shards.read(ids)


def test_a_tar_that_is_cut_under_the_reader_is_named(tmp_path: Path) -> None:
    directory = npy_set(tmp_path)
    with ShardSet.open(directory) as shards:
        os.truncate(directory / "set-train-00001.tar", 2 * 1024 + 512 + 50)
        assert shards.read(np.arange(12)).shape[0] == 12
        for ids in ([12], [19], [0, 15]):
            with pytest.raises(UserError, match="set-train-00001.tar: cut"):
                shards.read(np.array(ids))


def test_a_disk_error_is_named(tmp_path: Path, monkeypatch) -> None:
    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with ShardSet.open(npy_set(tmp_path)) as shards:
        monkeypatch.setattr(os, "preadv", broken)
        with pytest.raises(UserError, match="set-train-00002.tar: Input/output error"):
            shards.read(np.array([22]))


def test_open_verifies(tmp_path: Path) -> None:
    directory = npy_set(tmp_path)
    os.truncate(directory / "set-train-00002.tar", 512)
    with pytest.raises(UserError, match="set-train-00002.tar"):
        ShardSet.open(directory)


def test_a_label_that_is_none_is_named(tmp_path: Path) -> None:
    directory = sample_set(tmp_path / "set")
    path = directory / "set-test-00001.tar"
    with tarfile.open(path) as tar:
        offset = tar.getmember("000000500.cls").offset_data
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"x")
    with ShardSet.open(directory) as shards:
        with pytest.raises(UserError, match="set-test-00001.tar: 000000500.cls"):
            shards.labels(np.array([0]))


def test_close_gives_the_files_back(tmp_path: Path) -> None:
    directory = npy_set(tmp_path)
    before = os.listdir("/proc/self/fd")
    with ShardSet.open(directory) as shards:
        assert len(os.listdir("/proc/self/fd")) == len(before) + 3
    shards.close()
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ValueError, match="after close"):
        shards.read(np.array([0]))


def test_threads_share_a_set(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(23)
    expected = random_images(23)[order]
    wrong = []
    with ShardSet.open(npy_set(tmp_path)) as shards:

        def work(seed: int) -> None:
            for ids in np.random.default_rng(seed).integers(0, 23, (50, 16)):
                if not np.array_equal(shards.read(ids), expected[ids]):
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
