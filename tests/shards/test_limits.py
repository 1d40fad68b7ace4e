"""Files that are too large are refused by their size or their header, before they are read."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval.decisions.images import folder_images, read_chunks
from shards import verify
from shards.build import build
from shards.disk import reading
from shards.errors import UserError
from shards.pixels import limits
from shards.pixels.limits import MAX_FILE_BYTES, read_picture
from shards.pixels.resize import MAX_PIXELS, BadImage
from shards.pixels.target import Target
from shards.sources.archives import open_files
from shards.sources.registry import open_source
from shards.verify import verify_shards
from tests.support import source_cases as cases
from tests.support.shard_cases import folder_request, image_folder, npy_set

HUGE = 3 << 30
RULE = Target(6, 3, "raw", "pillow-bicubic")


def png_header(width: int, height: int) -> bytes:
    """Return the start of a PNG that states these sides and has no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + crc + b"\0\0\0\4IDAT"


@contextlib.contextmanager
def little_memory(limit: int = 600 << 20) -> Iterator[None]:
    """Limit the memory of the process in a block, so that larger requests fail."""
    import resource

    usual = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + limit, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, usual)


def sparse(path: Path, start: bytes, size: int) -> Path:
    path.write_bytes(start)
    os.truncate(path, size)
    return path


def test_a_huge_file_of_a_folder_is_rejected_unread(tmp_path: Path) -> None:
    src = image_folder(tmp_path / "images")
    sparse(src / "huge.png", png_header(5, 5), HUGE)
    sparse(src / "wide.png", png_header(20_000, 20_000), 700 << 20)
    with little_memory():
        source = open_source("folder", src, "x")
        names = [source.name(i) for i in range(len(source))]
        with pytest.raises(BadImage, match=f"has {HUGE:,} bytes, more than {MAX_FILE_BYTES:,}"):
            source.read(names.index("huge.png"))
        with pytest.raises(BadImage, match=f"larger than {MAX_PIXELS} pixels: "):
            source.read(names.index("wide.png"))


@pytest.mark.parametrize("channels", [1, 3])
def test_rejects_and_digest_of_what_was_not_read(
    tmp_path: Path, monkeypatch, channels: Any
) -> None:
    """A file that was not read is rejected like any other, and its digest is of all its bytes."""
    src = image_folder(tmp_path / "images")
    data = png_header(20_000, 20_000).ljust(60_000, b"\0")
    (src / "wide.png").write_bytes(data)
    (src / "long.png").write_bytes(data * 2)
    fields = {"max_rejects_pct": 50, "channels": channels}
    read = build(folder_request(src, tmp_path / "read", **fields))
    monkeypatch.setattr(limits, "LOOK_BYTES", 50_000)
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", 100_000)
    unread = build(folder_request(src, tmp_path / "unread", **fields))
    reasons = {}
    for name in ("read", "unread"):
        lines = (tmp_path / name / "rejects.jsonl").read_text().splitlines()
        reasons[name] = {one["name"]: one["reason"] for one in map(json.loads, lines)}
    assert reasons["read"]["wide.png"] == reasons["unread"]["wide.png"]
    assert reasons["unread"]["long.png"] == "has 120,000 bytes, more than 100,000"
    assert read.sources == unread.sources
    # The digest is also the same if these files are excluded.
    excluded = tmp_path / "list"
    excluded.write_text('{"name": "wide.png"}\n{"name": "long.png"}\n')
    some = build(folder_request(src, tmp_path / "some", exclude=excluded, **fields))
    assert some.sources == read.sources and some.rejects == 0


@pytest.mark.parametrize("kind", ["tar", "zip", "webdataset"])
def test_members_that_say_that_they_are_huge(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.tar"
    rng = np.random.default_rng(0)
    good, bomb = cases.encoded(rng), tmp_path / "bomb"
    sparse(bomb, png_header(5, 5), MAX_FILE_BYTES + 1)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
            out.writestr("good.jpg", good)
            with out.open("huge.png", "w", force_zip64=True) as member:
                for _ in range(9):
                    member.write(bytes(1 << 20))
        data = path.read_bytes()
        place = data.index(b"PK\1\2", data.index(b"PK\1\2") + 4) + 24
        assert data[place : place + 4] == struct.pack("<I", 9 << 20)
        path.write_bytes(data[:place] + struct.pack("<I", 2 << 30) + data[place + 4 :])
    else:
        header = tarfile.TarInfo("huge.png")
        header.size = MAX_FILE_BYTES + 1
        small = tarfile.TarInfo("good.jpg")
        small.size = len(good)
        with open(path, "wb") as out:
            out.write(small.tobuf() + good.ljust(-(-len(good) // 512) * 512, b"\0"))
            out.write(header.tobuf())
            end = out.tell() + -(-header.size // 512) * 512
        os.truncate(path, end + 1024)
    with little_memory():
        source = open_source("webdataset" if kind == "webdataset" else "folder", path, "x")
        assert source.read(0) == good
        with pytest.raises(BadImage, match=r"has [0-9,]+ bytes, more than"):
            source.read(1)


@pytest.mark.slow
def test_a_large_member_is_looked_at_where_it_is(tmp_path: Path) -> None:
    data = png_header(20_000, 20_000).ljust(17 << 20, b"\0")
    good = cases.encoded(np.random.default_rng(0), "TIFF", (30, 30)).ljust(17 << 20, b"\0")
    for name in ("x.tar", "x.zip", ""):
        src = cases.put(tmp_path / f"for{name}", name, {"a.png": data, "b.tif": good}, bool(name))
        source = open_source("folder", src, "x")
        with pytest.raises(BadImage, match="larger than"):
            source.read(0)
        assert source.read(1) == good


def test_own_images(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.png")
    sparse(tmp_path / "b.png", png_header(5, 5), HUGE)
    sparse(tmp_path / "c", png_header(20_000, 20_000), 700 << 20)
    names, reads = folder_images(tmp_path)
    with little_memory():
        (chunk,) = read_chunks(reads, RULE)
    assert names == ["a.png", "b.png", "c"]
    assert chunk.numbers == [0] and (chunk.pixels[0] == [255, 0, 0]).all()
    assert chunk.unreadable[1].startswith("has 3,221,225,472 bytes, more than ")
    assert chunk.unreadable[2].startswith("larger than 89478485 pixels: ")


def test_pictures_by_their_paths(tmp_path: Path) -> None:
    """`read_picture` returns the content of regular files only; `Detector.score` uses it."""
    path = tmp_path / "a.png"
    Image.new("RGB", (9, 9)).save(path)
    assert read_picture(path) == path.read_bytes()
    (tmp_path / "link.png").symlink_to(path)
    assert read_picture(tmp_path / "link.png") == path.read_bytes()
    sparse(path, png_header(5, 5), HUGE)
    with little_memory(), pytest.raises(BadImage, match="has 3,221,225,472 bytes"):
        read_picture(path)
    os.mkfifo(tmp_path / "pipe")
    for endless in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(BadImage, match="is a pipe, socket or device"):
            read_picture(endless)
    with pytest.raises(IsADirectoryError):
        read_picture(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "none")


def test_text_files(tmp_path: Path, monkeypatch) -> None:
    path = sparse(tmp_path / "list", b"{}", 5 << 30)
    with little_memory(), pytest.raises(UserError, match=r"list: has more than 1,073,741,824 byte"):
        reading.read_text(path)
    with pytest.raises(UserError, match="/dev/zero: has more than 1,000 bytes"):
        reading.read_text(Path("/dev/zero"), 1000)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"x" * 1000,))
    writer.start()
    assert reading.read_text(tmp_path / "pipe", 1000) == b"x" * 1000
    writer.join()
    monkeypatch.setattr("shards.sources.files.MAX_TEXT_BYTES", 50)
    tree = {"wnids.txt": b"n1\n" * 100, "val/images/a.JPEG": b"", "val/val_annotations.txt": b""}
    cases.put(tmp_path, "x.zip", tree, packed=True)
    with pytest.raises(UserError, match=r"'wnids.txt' has 300 bytes, more than 50"):
        open_files(tmp_path / "x.zip").lines("wnids.txt")


def test_a_header_of_an_array_that_is_the_file(tmp_path: Path) -> None:
    start = b"\x93NUMPY\2\0" + struct.pack("<I", 2 << 30)
    path = sparse(tmp_path / "x.npy", start, HUGE)
    with little_memory(), pytest.raises(UserError, match="x.npy: not an array file: a header of "):
        open_source("npy", path, "x")
    images = np.zeros((2, 3, 3, 3), np.uint8)
    with open(tmp_path / "two.npy", "wb") as file:
        np.lib.format.write_array(file, images, version=(2, 0))
    assert len(open_source("npy", tmp_path / "two.npy", "x")) == 2


@pytest.mark.parametrize("kind", [b"x", b"L", b"g"])
def test_a_header_of_a_tar_that_is_the_file(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 2 << 30
    path = sparse(tmp_path / "x.tar", info.tobuf(tarfile.GNU_FORMAT), HUGE)
    with little_memory(), pytest.raises(UserError, match=r"x\.tar: not a tar, or damaged: a head"):
        open_files(path)


def test_an_idx_that_unpacks_to_more_than_it_says(tmp_path: Path) -> None:
    cases.write_idx(tmp_path, train=4)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    header = struct.pack(">IIII", 0x803, 4, 28, 28)
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(header)
        for _ in range(160):
            out.write(bytes(1 << 20))
    with (
        little_memory(100 << 20),
        pytest.raises(UserError, match="ubyte.gz: more bytes, its dimensions"),
    ):
        open_source("idx", tmp_path, "train")
    path.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 1 << 20, 28, 28)))
    with little_memory(), pytest.raises(UserError, match="ubyte.gz: too short for its dimensions"):
        open_source("idx", tmp_path, "train")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    with little_memory(), pytest.raises(UserError, match="ubyte: too short for its dimensions"):
        open_source("idx", tmp_path, "train")


@pytest.mark.parametrize("packed", ["x.zip", "x.tar"])
def test_a_copy_of_a_member_is_made_in_pieces(tmp_path: Path, packed: str) -> None:
    content = np.random.default_rng(0).bytes(1000) * 3000
    src = cases.put(tmp_path, packed, {"a.bin": content}, packed=True)
    files = open_files(src)
    place = files.place(0)
    assert place.size == len(content)
    assert os.pread(place.file.fileno(), place.size, place.offset) == content
    with files.open(0) as file:
        assert file.read(10) == content[:10] and file.seek(-7, io.SEEK_END) == len(content) - 7
        assert file.read() == content[-7:] and file.read(1) == b""
        assert file.seek(2500) == 2500 and file.read(9) == content[2500:2509]


@pytest.mark.slow
def test_files_of_a_hostile_set(tmp_path: Path) -> None:
    directory = npy_set(tmp_path)
    (idx,) = sorted(directory.glob("*-00001.idx"))
    data = idx.read_bytes()
    sparse(idx, data, HUGE)
    with little_memory(), pytest.raises(UserError, match=r"00001\.idx: .* too many for 10 samples"):
        verify_shards(directory)
    idx.write_bytes(data)
    names = directory / "names.jsonl"
    before = names.read_bytes()
    os.truncate(names, 160 << 20)
    with (
        little_memory(100 << 20),
        pytest.raises(UserError, match="names.jsonl: its content changed"),
    ):
        verify_shards(directory)
    names.write_bytes(before)
    assert verify_shards(directory).samples == 23
    os.truncate(directory / "manifest.json", HUGE)
    with little_memory(), pytest.raises(UserError, match=r"manifest\.json: has more than"):
        verify_shards(directory)


def test_the_longest_lines_of_an_index_are_not_too_long() -> None:
    line = "png 999999999999 999999999 999999999.png cls 999999999999 9 999999999.cls\n"
    assert len(line) < verify.MAX_IDX_LINE_BYTES


def test_the_digest_of_a_file_in_pieces(tmp_path: Path) -> None:
    from shards.sources.image_files import ImageFiles

    data = np.random.default_rng(0).bytes(3_000_001)
    cases.put(tmp_path / "x", "", {"a.png": data}, packed=False)
    found = ImageFiles(open_files(tmp_path / "x")).digest(0)
    assert found == (len(data), hashlib.sha256(data).digest())
