"""Sources against what is in the files by an independent way."""

import gzip
import hashlib
import os
import shutil
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.cli import UserError
from shards.sources.folder import FolderSource
from shards.sources.idx import IdxSource
from shards.sources.npy import NpySource
from tests.shard_cases import SAMPLE, random_images


def write_idx(folder: Path, images: np.ndarray, labels: list[int], gz: bool = True) -> Path:
    """The two files of an IDX training split from uint8 [N,H,W]; returns the folder."""
    folder.mkdir(exist_ok=True)
    header = bytes([0, 0, 8, 3]) + struct.pack(">III", *images.shape)
    files = {
        "train-images-idx3-ubyte": header + images.tobytes(),
        "train-labels-idx1-ubyte": bytes([0, 0, 8, 1])
        + struct.pack(">I", len(labels))
        + bytes(labels),
    }
    for name, data in files.items():
        path = folder / (name + ".gz" if gz else name)
        path.write_bytes(gzip.compress(data) if gz else data)
    return folder


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.mark.parametrize(
    ("split", "stem", "count"), [("train", "train", 6144), ("test", "t10k", 3000)]
)
def test_idx_of_the_sample_decoded_by_hand(split: str, stem: str, count: int) -> None:
    raw = gzip.decompress((SAMPLE / f"{stem}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((SAMPLE / f"{stem}-labels-idx1-ubyte.gz").read_bytes())[8:]
    source = IdxSource(SAMPLE, split)
    assert len(source) == len(labels) == count
    assert source.labels.tolist() == list(labels)
    assert source.classes == tuple("0123456789")
    for i in (0, 1, count // 2, count - 1):
        sample = source[i]
        assert sample.pixels.shape == (28, 28, 1)
        assert sample.pixels.tobytes() == raw[16 + 784 * i : 16 + 784 * (i + 1)]
        assert (sample.label, sample.name) == (labels[i], None)


@pytest.mark.parametrize("gz", [True, False])
def test_idx_need_not_be_square_or_zipped(tmp_path: Path, gz: bool) -> None:
    images = random_images(4, channels=1)[:, :, :5, 0]
    source = IdxSource(write_idx(tmp_path, images, [2, 0, 1, 2], gz), "train", ["a", "b", "c"])
    assert np.array_equal(source[3].pixels[:, :, 0], images[3])
    assert source.classes == ("a", "b", "c")
    for file in source.files():
        data = (tmp_path / file.file).read_bytes()
        assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def damage(path: Path, change) -> None:
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
def test_damaged_idx_is_named(tmp_path: Path, which: str, change) -> None:
    folder = write_idx(tmp_path, random_images(4, channels=1)[..., 0], [0, 1, 0, 1])
    damage(folder / f"train-{which}-ubyte.gz", change)
    with pytest.raises(UserError, match=f"train-{which}-ubyte.gz: "):
        IdxSource(folder, "train")


def test_idx_refusals(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "a", random_images(4, channels=1)[..., 0], [0, 1, 0])
    with pytest.raises(UserError, match="4 images, train-labels-idx1-ubyte.gz has 3 labels"):
        IdxSource(folder, "train")
    folder = write_idx(tmp_path / "b", random_images(2, channels=1)[..., 0], [0, 2])
    with pytest.raises(UserError, match="label 2 has no class"):
        IdxSource(folder, "train", ["x", "y"])
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte.gz: missing"):
        IdxSource(folder, "test")
    with pytest.raises(UserError, match="split is 'val'"):
        IdxSource(folder, "val")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        IdxSource(tmp_path / "nowhere", "train")
    path = folder / "train-images-idx3-ubyte.gz"
    for broken in (path.read_bytes()[:-9], b"<html>", b"\x1f\x8b\x08\0" + b"\xff" * 60):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="train-images-idx3-ubyte.gz: "):
            IdxSource(folder, "train")


@pytest.mark.parametrize("shape", [(5, 4, 3, 3), (5, 4, 3, 1), (5, 4, 3)])
def test_npy(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.save(tmp_path / "x.npy", images)
    source = NpySource(tmp_path / "x.npy")
    assert len(source) == 5
    assert np.array_equal(source[4].pixels, images[4].reshape(4, 3, -1))
    assert (source.labels, source.classes, source[4].label, source[4].name) == (
        None,
        (),
        None,
        None,
    )
    assert source.files()[0].file == "x.npy"


def test_npy_refusals(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with pytest.raises(UserError, match="x.npy: no such"):
        NpySource(path)
    arrays = [
        np.zeros((2, 4, 4, 3), np.float32),
        np.zeros((2, 4, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
        np.array([{"pickled": 1}], object),
    ]
    for array in arrays:
        np.save(path, array)
        with pytest.raises(UserError, match="x.npy: "):
            NpySource(path)
    np.savez(tmp_path / "y.npz", images=np.zeros((2, 4, 4, 3), np.uint8))
    shutil.move(tmp_path / "y.npz", path)
    with pytest.raises(UserError, match="x.npy: an archive"):
        NpySource(path)
    for content in (b"", b"\x93NUMPY", b"<html>"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="x.npy: not an array file"):
            NpySource(path)


def test_folder_order_names_and_what_is_left_out(tmp_path: Path) -> None:
    red = np.full((3, 4, 3), (250, 0, 0), np.uint8)
    shown = ["B/z.png", "a/sub/x.PNG", "a/y.tif", "a/é.bmp", "a.png", "a b.webp"]
    for name in [*shown, ".hidden/h.png", "a/.h.png"]:
        save(tmp_path / name, red)
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe.png")
    source = FolderSource(tmp_path)
    names = [source[i].name for i in range(len(source))]
    assert names == sorted(shown)
    assert np.array_equal(source[names.index("B/z.png")].pixels, red)
    assert (source.labels, source.classes) == (None, ())


def test_folder_listing_order_does_not_matter(tmp_path: Path, monkeypatch) -> None:
    for i in range(9):
        save(tmp_path / f"{i % 3}" / f"{i}.png", random_images(1, seed=i)[0])
    before = FolderSource(tmp_path, class_folders=True)
    listed = os.scandir

    class Backwards:
        def __init__(self, folder):
            self.entries = list(listed(folder))[::-1]

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    first = [entry.name for entry in listed(tmp_path)]
    monkeypatch.setattr(os, "scandir", Backwards)
    with os.scandir(tmp_path) as entries:
        assert [entry.name for entry in entries] == first[::-1]
    after = FolderSource(tmp_path, class_folders=True)
    assert [before[i].name for i in range(9)] == [after[i].name for i in range(9)]
    assert before.labels.tolist() == after.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert before.files() == after.files()


def test_class_folders(tmp_path: Path) -> None:
    for name in ("cat/1.png", "Bird/deep/2.png", "cat/3.png"):
        save(tmp_path / name, random_images(1)[0])
    (tmp_path / "ant").mkdir()
    source = FolderSource(tmp_path, class_folders=True)
    assert source.classes == ("Bird", "ant", "cat")
    assert [(source[i].name, source[i].label) for i in range(3)] == [
        ("Bird/deep/2.png", 0),
        ("cat/1.png", 2),
        ("cat/3.png", 2),
    ]
    save(tmp_path / "loose.png", random_images(1)[0])
    with pytest.raises(UserError, match="loose.png: not in a class folder"):
        FolderSource(tmp_path, class_folders=True)


def test_folder_files_is_one_entry_that_sees_content_and_names(tmp_path: Path) -> None:
    save(tmp_path / "a.png", random_images(1)[0])
    save(tmp_path / "b.png", random_images(1, seed=1)[0])
    (before,) = FolderSource(tmp_path).files()
    assert before.file == tmp_path.name
    assert before.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    (renamed,) = FolderSource(tmp_path).files()
    save(tmp_path / "c.png", random_images(1, seed=2)[0])
    (edited,) = FolderSource(tmp_path).files()
    assert len({before.sha256, renamed.sha256, edited.sha256}) == 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_mode(tmp_path: Path, mode: str, channels: int) -> None:
    if mode == "I;16":
        high = random_images(1, channels=1)[0, :, :, 0]
        image = Image.fromarray(high.astype(np.uint16) * 256 + 77)
        expected = np.repeat(high[:, :, None], channels, 2)
    else:
        image = Image.fromarray(random_images(1)[0]).convert(mode)
        expected = np.asarray(image.convert("RGB" if channels == 3 else "L")).reshape(6, 6, -1)
    image.save(tmp_path / "x.tif")
    pixels = FolderSource(tmp_path, channels=channels)[0].pixels
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = (255, 0, 0)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "x.png", np.ascontiguousarray(stored), exif=exif)
    assert np.array_equal(FolderSource(tmp_path)[0].pixels, upright)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is large and holds nothing."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be decoded"),
        (b"<html>not found</html>", "cannot be decoded"),
        (png_header(9, 9), "cannot be decoded"),
        (png_header(10_000, 9_000), "larger than 89478485 pixels"),
        (png_header(65_500, 65_500), "larger than 89478485 pixels"),
    ],
    ids=["empty", "html", "no data", "bomb", "huge bomb"],
)
def test_undecodable_image_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "bad.jpg").write_bytes(content)
    source = FolderSource(tmp_path)
    for action in ("error", "ignore"):
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            with pytest.raises(UserError, match=rf"sub/bad\.jpg: {reason}") as caught:
                source[0]
        assert "\n" not in str(caught.value)


def test_cut_jpeg_is_named(tmp_path: Path) -> None:
    save(tmp_path / "cut.jpg", random_images(1, size_px=64)[0], quality=95)
    data = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cut.jpg: cannot be decoded"):
        FolderSource(tmp_path)[0]


def test_folder_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        FolderSource(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="no images"):
        FolderSource(tmp_path)
