"""Damaged and hostile files of the formats that hold arrays of pixels."""

import gzip
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from shards.errors import UserError
from shards.sources.registry import open_source
from tests.support import source_cases as cases


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def rows(**fields: Any) -> dict[str, Any]:
    """Return a CIFAR batch of two images, with some fields changed."""
    images = np.arange(6144, dtype=np.uint8).reshape(2, 3072)
    return {"data": images, "labels": [3, 4], "filenames": ["a.png", "b.png"]} | fields


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Evil(os.system, "touch EVIL"), "its pickle asks for posix.system, which is not allowed"),
        (rows(data=Evil(eval, "1")), "asks for __builtin__.eval"),
        (rows(data=Evil(getattr, "text", "upper")), "asks for __builtin__.getattr"),
        (rows(data=np.zeros((2, 3072))), "an array of f8, expected u1"),
        (rows(data=np.array([Evil(os.getpid)])), "an array of O8, expected u1"),
        (rows(data=[Evil(os.getpid)]), "asks for posix.getpid"),
        (rows(data=np.zeros((2, 3071), np.uint8)), "data is not uint8"),
        (rows(data=[1]), "data is not uint8"),
        (rows(data=np.asfortranarray(rows()["data"])), "not of bytes in C order"),
        (rows(labels=["3", "4"]), "labels is not a list of int"),
        (rows(labels=None), "labels is not a list of int"),
        (rows(labels=[3]), "2 images, but labels of shape"),
        (rows(labels=[3, 10]), "labels 3 to 10, but 10 classes"),
        (rows(labels=[-1, 3]), "labels -1 to 3, but 10 classes"),
        (rows(filenames=["a.png"]), "2 images, but 1 names"),
        (cases.python2_pickle(rows()).replace(b"J\x02\0\0\0J", b"J\x03\0\0\0J"), "not a pickle"),
        ([1, 2], "a pickled list, expected a dictionary"),
        (b"", "not a pickle"),
        (b"\x80\x02}(T\xff\xff\xff\x7fdata", "not a pickle"),
        (pickle.dumps(rows(), 2)[:-900], "not a pickle"),
    ],
)
def test_hostile_and_damaged_cifar(tmp_path: Path, content: Any, message: str, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cases.write_cifar10(tmp_path, packed=False)
    data = content if isinstance(content, bytes) else pickle.dumps(content, 2)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(data)
    with pytest.raises(UserError, match=f"(test_batch|batches).*{message}") as caught:
        open_source("cifar10", tmp_path, "test")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "EVIL").exists()


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("encoding", ["latin1", "bytes"])
def test_cifar_as_python_3_pickles_it_again(tmp_path: Path, protocol: int, encoding: str) -> None:
    made = cases.write_cifar10(tmp_path, packed=False)["test"]
    for name in ("test_batch", "batches.meta"):
        path = tmp_path / "cifar-10-batches-py" / name
        content = pickle.loads(path.read_bytes(), encoding=encoding)
        path.write_bytes(pickle.dumps(content, protocol))
    source = open_source("cifar10", tmp_path, "test")
    assert [source.name(i) for i in range(10)] == made.names
    assert source.labels.tolist() == made.labels  # type: ignore[union-attr]
    assert source.classes == tuple(made.classes)
    assert all(np.array_equal(source.read(i), made.images[i]) for i in range(10))


def test_a_file_of_cifar_that_is_there_twice(tmp_path: Path) -> None:
    cases.write_cifar10(tmp_path / "once" / "cifar-10-batches-py", packed=False)
    cases.write_cifar10(tmp_path / "once", packed=False)
    with pytest.raises(UserError, match="2 files test_batch in it, expected one"):
        open_source("cifar10", tmp_path / "once" / "cifar-10-batches-py", "test")


def test_cut_cifar_archive(tmp_path: Path) -> None:
    cases.write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-python.tar.gz"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz: cannot be decompressed"):
        open_source("cifar10", tmp_path, "train")


X = np.zeros((5, 4, 3, 2), np.uint8)
Y = np.array([[1], [10]], np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"X": X}, "not a MATLAB 5 file with X and y"),
        ({"X": X.astype(float), "y": Y}, r"X is float64 \(5, 4, 3, 2\)"),
        ({"X": X.transpose(2, 0, 1, 3), "y": Y}, r"X is uint8 \(3, 5, 4, 2\)"),
        ({"X": X, "y": Y[:1]}, "y is not 2 labels from 1 to 10"),
        ({"X": X, "y": Y - 1}, "y is not 2 labels from 1 to 10"),
        ({"X": X, "y": Y + 1}, "y is not 2 labels from 1 to 10"),
        ({"X": X, "y": Y / 4}, "y is not 2 labels from 1 to 10"),
        (b"<html>", "not a MATLAB 5 file"),
        (b"", "not a MATLAB 5 file"),
    ],
)
def test_svhn_that_is_not(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "test_32x32.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        scipy.io.savemat(path, content)
    with pytest.raises(UserError, match=rf"test_32x32\.mat: {message}") as caught:
        open_source("svhn", tmp_path, "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.95])
def test_cut_svhn(tmp_path: Path, share: float) -> None:
    cases.write_svhn(tmp_path)
    path = tmp_path / "test_32x32.mat"
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(UserError, match=r"test_32x32\.mat: not a MATLAB 5 file"):
        open_source("svhn", tmp_path, "test")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("test_X.bin", lambda d: d[:-1], "test_X.bin has 304127 bytes, expected a multiple"),
        ("test_X.bin", lambda d: d[:-27648], "10 images, but labels of shape"),
        ("test_X.bin", lambda d: b"", "no images"),
        ("test_y.bin", lambda d: d[:-1], "11 images, but labels of shape"),
        ("test_y.bin", lambda d: b"\0" + d[1:], "labels -1 to 9, but 10 classes"),
        ("test_y.bin", lambda d: b"\x0b" + d[1:], "labels 0 to 10, but 10 classes"),
        ("class_names.txt", lambda d: b"\xff\xfe", "class_names.txt is not text"),
    ],
)
def test_damaged_stl10(tmp_path: Path, name: str, change: Any, message: str) -> None:
    cases.write_stl10(tmp_path, packed=False)
    path = tmp_path / "stl10_binary" / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=message):
        open_source("stl10", tmp_path, "test")


def mapped_files() -> set[str]:
    """Return the files that the process maps, without "/dev/zero" (unnamed shared memory)."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    names = {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
    return {name for name in names if not name.startswith("/dev/zero")}


@pytest.mark.parametrize("archive", ["folder", "x.tar", "x.tar.gz", "x.zip"])
def test_stl10_lies_in_its_file(tmp_path: Path, archive: str) -> None:
    made = cases.write_stl10(tmp_path / "folder", packed=False)["test"]
    names = [path for path in (tmp_path / "folder").rglob("*") if path.is_file()]
    files = {str(path.relative_to(tmp_path / "folder")): path.read_bytes() for path in names}
    src = cases.put(tmp_path / archive, archive, files, packed=archive != "folder")
    mapped_before = mapped_files()
    source: Any = open_source("stl10", src / "stl10_binary" if src.is_dir() else src, "test")
    indexes = np.array([10, 0, 0, 7])
    out = np.zeros((5, 96 * 96 * 3), np.uint8)[1:]
    source.read_into(indexes, out)
    assert np.array_equal(out.reshape(4, 96, 96, 3), [made.images[i] for i in indexes])
    # A mapped file would be held in memory, and the process would be killed if it is cut.
    new = mapped_files() - mapped_before
    assert not [name for name in new if str(tmp_path) in name or name.endswith("(deleted)")]
    if archive in ("folder", "x.tar"):
        (path,) = {path for path in source.paths if path.name in ("test_X.bin", archive)}
        os.truncate(path, 2000)
        with pytest.raises(UserError, match=f"{path.name}: cut since it was opened"):
            source.read(10)


@pytest.mark.parametrize(
    ("writer", "call", "file", "change", "message"),
    [
        (
            cases.write_tiny_imagenet,
            ("tiny-imagenet", "val"),
            "tiny-imagenet-200/val/val_annotations.txt",
            lambda text: text.partition("\n")[2],
            "val/images/val_11.JPEG has no line in val_annotations.txt",
        ),
        (
            cases.write_tiny_imagenet,
            ("tiny-imagenet", "train"),
            "tiny-imagenet-200/wnids.txt",
            lambda text: text.partition("\n")[2],
            "is of 'n02124075', which is not in wnids.txt",
        ),
        (
            cases.write_dtd,
            ("dtd", "val1"),
            "dtd/labels/val1.txt",
            lambda text: text + "banded/banded_9999.jpg\n",
            "images/banded/banded_9999.jpg is missing, labels/val1.txt lists it",
        ),
        (
            cases.write_places365,
            ("places365", "val"),
            "places365_val.txt",
            lambda text: text.partition("\n")[2],
            "places365_val.txt: no label of Places365_val_00000010.jpg",
        ),
        (
            cases.write_places365,
            ("places365", "val"),
            "places365_val.txt",
            lambda text: text.replace("jpg ", "jpg 9"),
            "places365_val.txt: Places365_val_00000001.jpg has label 9[0-9] of 4",
        ),
        (
            cases.write_places365,
            ("places365", "val"),
            "places365_val.txt",
            lambda text: text + "jpg\n",
            "places365_val.txt: a line is not a name and a number",
        ),
    ],
)
def test_labels_that_are_not_there(
    tmp_path: Path, writer: Any, call: tuple[str, str], file: str, change: Any, message: str
) -> None:
    writer(tmp_path, packed=False)
    path = tmp_path / file
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message):
        open_source(call[0], tmp_path, call[1])


def damage(path: Path, change: Any) -> None:
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


@pytest.mark.parametrize("which", ["images-idx3", "labels-idx1"])
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:6],
        lambda data: b"",
        lambda data: b"\0\0\x0d" + data[3:],
        lambda data: data[:4] + b"\xff" * 4 + data[8:],
    ],
    ids=["short", "long", "half a header", "empty", "magic", "count"],
)
def test_damaged_idx_is_named(tmp_path: Path, which: str, change: Any) -> None:
    cases.write_idx(tmp_path)
    damage(tmp_path / f"train-{which}-ubyte.gz", change)
    with pytest.raises(UserError, match=f"train-{which}-ubyte.gz: "):
        open_source("idx", tmp_path, "train")


def test_idx_refusals(tmp_path: Path) -> None:
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    for labels, message in (
        ([0, 1, 0], "train-images-idx3-ubyte.gz: 4 images, but labels of shape .3,."),
        ([0, 1, 2, 10], "train-labels-idx1-ubyte.gz: labels 0 to 10, but 10 classes"),
    ):
        cases.write_idx(tmp_path, train=4)
        path.write_bytes(gzip.compress(struct.pack(">II", 0x801, len(labels)) + bytes(labels)))
        with pytest.raises(UserError, match=message):
            open_source("fashion-mnist", tmp_path, "train")
    for broken in (path.read_bytes()[:-9], b"<html>", b"\x1f\x8b\x08\0" + b"\xff" * 60):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="train-labels-idx1-ubyte.gz: cannot be read"):
            open_source("idx", tmp_path, "train")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 4, 4, 3), np.float32),
        np.zeros((2, 4, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
        np.array([{"pickled": 1}], object),
    ],
    ids=["float", "4 channels", "2 dimensions", "empty", "object"],
)
def test_arrays_that_are_not_images(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match="x.npy: "):
        open_source("npy", tmp_path / "x.npy", "train")


def npy_bytes(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(48)


NPY_HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize(
    "header",
    [
        "{" + NPY_HEADER % "(1, 4, 4, 3)",
        NPY_HEADER % "(((((1, 4, 4, 3)",
        NPY_HEADER.replace("'|u1'", "'|u1\n") % "(1, 4, 4, 3)",
        *(
            NPY_HEADER % shape
            for shape in (
                "(-1, 4, 4, 3)",
                "(-1, -4, 4, 3)",
                "(2, 4, 4, 3)",
                f"({2**63 - 1}, 4, 4, 3)",
                f"({10**30}, 4, 4, 3)",
                "(True, 4, 4, 3)",
                "(1.0, 4, 4, 3)",
            )
        ),
        "x" * 100,
    ],
)
def test_damaged_headers_of_arrays(tmp_path: Path, header: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(npy_bytes(NPY_HEADER % "(1, 4, 4, 3)"))
    assert len(open_source("npy", path, "train")) == 1
    path.write_bytes(npy_bytes(header))
    with pytest.raises(UserError, match="x.npy: not an array file: ") as caught:
        open_source("npy", path, "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"<html>"])
def test_what_is_no_array_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(UserError, match="x.npy: not an array file"):
        open_source("npy", path, "train")
    np.savez(tmp_path / "x.npz", np.zeros(3))
    with pytest.raises(UserError, match="x.npz: an archive of arrays"):
        open_source("npy", tmp_path / "x.npz", "train")
