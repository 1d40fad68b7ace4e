"""Entries that are not images are counted, in a folder and in each archive of it alike."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from eval.decisions.images import folder_images, read_chunks
from shards import info
from shards.build import build, main
from shards.errors import UserError
from shards.manifest_file import read_manifest
from shards.pixels.target import Target
from shards.reader import ShardSet
from shards.sources.archives import open_files
from shards.sources.registry import open_source
from tests.support import source_cases as cases
from tests.support.shard_cases import contents, folder_request, image_folder

RNG = np.random.default_rng(3)
JPEG, PNG = cases.encoded(RNG), cases.encoded(RNG, "PNG")
TREE = {
    "cat/1.jpg": JPEG,
    "cat/2": PNG,
    "cat/3.txt": JPEG,
    "cat/4.JFIF": JPEG,
    "cat/notes.txt": b"cats",
    "cat/none": b"",
    "dog/deep/5.gif": cases.encoded(RNG, "GIF"),
    "dog/photo.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "dog/.hidden.png": PNG,
    ".git/objects/6.png": PNG,
    ".git/objects/7.png": PNG,
    "ant/only a text": b"ants",
}
"""Path -> content of a tree of class folders; the empty folder "bee" is added to it."""
TAKEN = ["cat/1.jpg", "cat/2", "cat/3.txt", "cat/4.JFIF", "dog/deep/5.gif"]
PASSED = {
    "HEIC (not read)": 1,
    "empty": 1,
    "hidden": 2,
    "no image by its content": 2,
}
TINY = "tiny-imagenet-200"
WAYS = ["folder", "tar", "tar.gz", "zip", "tar of tars"]


def written(tmp_path: Path, way: str) -> Path:
    """Write the tree as a folder, or pack it with common tools."""
    folder = cases.put(tmp_path / "tree", "", TREE, packed=False)
    (folder / "bee").mkdir()
    path = tmp_path / "packed"
    if way == "folder":
        return folder
    if way == "tar of tars":
        parts = []
        for name in sorted(os.listdir(folder)):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as tar:
                for one in sorted(os.listdir(folder / name)):
                    tar.add(folder / name / one, one)
            parts.append((f"{name}.tar", buffer.getvalue()))
        path.write_bytes(cases.tar_bytes(parts))
        return path
    if way == "zip":
        with zipfile.ZipFile(path, "w") as out:
            for one in sorted(folder.rglob("*")):
                out.write(one, one.relative_to(folder))
        return path
    subprocess.run(["tar", "-cf", path, "-C", folder, "."], check=True)
    if way == "tar.gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_in_tell_alike(tmp_path: Path, way: str, capsys) -> None:
    src = written(tmp_path, way)
    source = open_source("folder", src, "x")
    assert [source.name(i) for i in range(len(source))] == TAKEN
    assert [source.read(i) for i in range(len(source))] == [TREE[name] for name in TAKEN]
    assert dict(source.passed_over) == PASSED
    note = "HEIC (not read): 1, empty: 1, hidden: 2, no image by its content: 2"
    assert capsys.readouterr().err == f"note: {src}: 6 entries are passed over ({note})\n"

    source = open_source("class-folders", src, "x")
    assert source.classes == ("cat", "dog")
    assert source.labels is not None and source.labels.tolist() == [0, 0, 0, 0, 1]
    assert dict(source.passed_over) == {**PASSED, "class folder without an image": 2}


def test_what_is_neither_a_file_nor_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.png").write_bytes(PNG)
    (folder / "b.png").write_bytes(PNG)
    (folder / "linked.png").symlink_to(folder / "a" / "1.png")
    (folder / "linked").symlink_to(folder / "a")
    os.mkfifo(folder / "pipe.png")
    packed = tmp_path / "x.tar"
    subprocess.run(["tar", "-cf", packed, "-C", folder, "."], check=True)
    for src in (folder, packed):
        source = open_source("folder", src, "x")
        assert [source.name(i) for i in range(len(source))] == ["a/1.png", "b.png"]
        assert source.passed_over == {"link (not followed)": 2, "pipe, socket or device": 1}


def test_hard_links_are_files_of_a_tar_as_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    cases.put(folder, "", {"a/1.png": PNG, "z": b"z"}, packed=False)
    os.link(folder / "a" / "1.png", folder / "a" / "2.png")
    packed = tmp_path / "x.tar"
    subprocess.run(["tar", "-cf", packed, "-C", folder, "a", "z"], check=True)
    with tarfile.open(packed) as tar:
        assert sum(member.islnk() for member in tar) == 1
    sources = [open_source("folder", src, "x") for src in (folder, packed)]
    for source in sources:
        assert [source.name(i) for i in range(len(source))] == ["a/1.png", "a/2.png"]
        assert [source.read(i) for i in range(len(source))] == [PNG, PNG]


@pytest.mark.parametrize("kind", ["tar", "zip", "tar of tars"])
def test_the_last_of_one_name_is_taken_as_unpacking_does(tmp_path: Path, kind: str) -> None:
    entries = [("a/1.png", PNG), ("./a/1.png", b"old"), ("b/1.png", PNG), ("a//1.png", JPEG)]
    path = tmp_path / "x"
    unpacked = tmp_path / "unpacked"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as out:
            for name, data in entries:
                out.writestr(name.replace("//", "/"), data)
        with zipfile.ZipFile(path) as packed:
            packed.extractall(unpacked)
    else:
        data = cases.tar_bytes(entries)
        path.write_bytes(data if kind == "tar" else cases.tar_bytes([("t.tar", data)]))
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(unpacked, filter="data")
    source = open_source("folder", path, "x")
    names = [source.name(i) for i in range(len(source))]
    assert names == ["a/1.png", "b/1.png"]
    for i, name in enumerate(names):
        assert source.read(i) == (unpacked / name).read_bytes()
    assert source.passed_over == {"overwritten by a later entry of its name": 2}


def test_names_that_look_alike_are_different(tmp_path: Path) -> None:
    names = ["a.png", "A.png", "\u00e9.png", "e\u0301.png"]
    path = tmp_path / "x.tar"
    path.write_bytes(cases.tar_bytes([(name, PNG) for name in names]))
    assert len(open_source("folder", path, "x")) == 4
    assert open_source("folder", path, "x").passed_over == {}


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "unpacked"])
@pytest.mark.parametrize(
    ("name", "writer", "split", "root"),
    [
        ("tiny-imagenet", cases.write_tiny_imagenet, "train", f"{TINY}/train/n01443537/images"),
        ("dtd", cases.write_dtd, "all", "dtd/images/banded"),
        ("imagenet", cases.write_imagenet, "train", ""),
    ],
)
def test_official_files_are_known_by_their_names(
    tmp_path: Path, monkeypatch, packed: bool, name: str, writer, split: str, root: str
) -> None:
    """Other files beside official ones are not taken, not opened and not counted."""
    put, tar_bytes = cases.put, cases.tar_bytes
    more = {f"{root}/{one}": data for one, data in (("note", b"x"), ("pic", JPEG), (".h", b""))}

    def with_more(folder: Path, archive: str, files, packed: bool) -> Path:
        is_it = any(one.startswith(root) for one in files)
        return put(folder, archive, {**files, **(more if root and is_it else {})}, packed)

    def with_more_in_tars(entries) -> bytes:
        return tar_bytes([*entries, ("note", b"x"), ("pic", JPEG), (".h", b"")])

    made = writer(tmp_path / "plain", packed=packed)[split]
    monkeypatch.setattr(cases, "put", with_more)
    if not root and packed:
        monkeypatch.setattr(cases, "tar_bytes", with_more_in_tars)
    writer(tmp_path / "more", packed=packed)
    source = open_source(name, tmp_path / "more", split)
    assert [source.name(i) for i in range(len(source))] == made.names
    assert [source.read(i) for i in range(len(source))] == made.images
    assert source.passed_over == {}


def test_a_manifest_tells_and_so_does_info(tmp_path: Path, capsys) -> None:
    src = image_folder(tmp_path / "images")
    (src / "class0" / "notes").write_text("x")
    (src / "class1" / ".DS_Store").write_text("x")
    (src / "class2" / "like a png").write_bytes((src / "class2" / "2.png").read_bytes())
    arguments = ["--source", "folder", "--src", str(src), "--size-px", "6"]
    main([*arguments, "--out", str(tmp_path / "a" / "set")])
    said = capsys.readouterr()
    told = "hidden: 1, no image by its content: 1"
    assert said.err == f"note: {src}: 2 entries are passed over ({told})\n"
    assert said.out.endswith(f" MB, passed over {told}\n")
    main([*arguments, "--out", str(tmp_path / "b" / "set"), "--workers", "1"])
    assert contents(tmp_path / "a" / "set") == contents(tmp_path / "b" / "set")
    manifest = read_manifest(tmp_path / "a" / "set")
    assert manifest.passed_over == {"hidden": 1, "no image by its content": 1}
    assert manifest.samples == 10
    capsys.readouterr()
    info.main([str(tmp_path / "a" / "set")])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    first = lines.index("left out 2 entries that were passed over:")
    assert lines[first + 1 : first + 3] == ["hidden: 1", "no image by its content: 1"]


def test_a_build_goes_on_though_a_hidden_file_came_in_between(tmp_path: Path) -> None:
    from shards.building.build_plan import plan

    src = image_folder(tmp_path / "images")
    request = folder_request(src, tmp_path / "set")
    before = plan(request)
    (src / ".DS_Store").write_text("x")
    after = plan(request)
    assert before.identity == after.identity and before.manifest != after.manifest
    (src / "more.png").write_bytes(PNG)
    assert plan(request).identity != after.identity


def test_a_folder_that_a_build_leaves_is_not_counted(tmp_path: Path) -> None:
    """A set may be built below its source, and a resumed build must give the same bytes."""
    src = image_folder(tmp_path / "images")
    (src / ".set.partial").mkdir()
    assert open_source("folder", src, "x").passed_over == {}


NAMED = {
    "1.jfif": "JPEG",
    "2.jpe": "JPEG",
    "3.gif": "GIF",
    "4.jp2": "JPEG2000",
    "5.dat": "BMP",
    "6": "TIFF",
    "7.": "WEBP",
    **({"8.avif": "AVIF", "9": "AVIF"} if features.check("avif") else {}),
}


@pytest.mark.parametrize("way", ["folder", "x.tar", "x.zip"])
def test_pictures_of_any_name_have_their_pixels(tmp_path: Path, way: str) -> None:
    files = {name: cases.encoded(RNG, kind, (6, 6)) for name, kind in NAMED.items()}
    src = cases.put(tmp_path / "x", way, files, packed=way != "folder")
    manifest = build(folder_request(src, tmp_path / "set"))
    assert (manifest.samples, manifest.rejects) == (len(NAMED), 0)
    with ShardSet.open(tmp_path / "set") as shards:
        names, pixels = shards.names(), shards.read(np.arange(len(shards)))
    for name, found in zip(names, pixels, strict=True):
        with Image.open(io.BytesIO(files[name])) as image:
            assert np.array_equal(found, np.asarray(image.convert("RGB"))), name


def test_own_images_are_taken_by_their_content_too(tmp_path: Path, capsys) -> None:
    src = written(tmp_path, "folder")
    names, reads = folder_images(src)
    (chunk,) = read_chunks(reads, Target(6, 3, "raw", "pillow-bicubic"))
    assert [names[i] for i in chunk.numbers] == TAKEN
    assert {names[i]: why for i, why in chunk.unreadable.items()} == {
        "ant/only a text": "no image by its content",
        "cat/none": "empty",
        "cat/notes.txt": "no image by its content",
        "dog/photo.heic": "HEIC (not read)",
    }
    assert capsys.readouterr().err == f"note: {src}: 2 entries are passed over (hidden: 2)\n"


def test_a_member_that_cannot_be_unpacked_is_counted(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("1.png", PNG)
        out.writestr("notes", b"content" * 100)
    data = bytearray(file.getvalue())
    start = data.index(b"notes") + len("notes")
    data[start : start + 4] = b"\xff" * 4
    (tmp_path / "x.zip").write_bytes(data)
    files = open_files(tmp_path / "x.zip")
    assert (files.images(), files.passed_over) == ([0], {"cannot be opened": 1})


def test_a_class_folder_that_holds_all(tmp_path: Path) -> None:
    """Labels number only the folders that hold images, in alphabetical order."""
    for way in ("x.tar", "x.zip", ""):
        files = {f"ds/{name}/1.png": PNG for name in "bd"} | {
            "ds/a/notes.txt": b"",
            "ds/c/notes.txt": b"x",
            "ds/README": b"x",
        }
        src = cases.put(tmp_path / f"for{way}", way, files, packed=bool(way))
        source = open_source("class-folders", src / "ds" if src.is_dir() else src, "x")
        assert source.classes == ("b", "d")
        assert source.labels is not None and source.labels.tolist() == [0, 1]
        assert source.passed_over["class folder without an image"] == 2
    with pytest.raises(UserError, match="no images in it or below; passed over: empty: 1"):
        cases.put(tmp_path, "none.zip", {"a/x": b""}, packed=True)
        open_source("class-folders", tmp_path / "none.zip", "x")
