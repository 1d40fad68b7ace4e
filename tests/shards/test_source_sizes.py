"""The stored size of an image before resizing is the size that Pillow reads from its file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards import build as build_module
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.info import main as info
from shards.manifest_file import read_manifest
from shards.reader import ShardSet
from shards.verify import verify_shards
from tests.support.shard_cases import contents, folder_request, npy_set, random_images

ORIENTATION = 0x0112


def mixed_folder(folder: Path) -> Path:
    """Write 17 images of three classes and many sizes, and three damaged files between them.

    Each fourth image is a JPEG turned by EXIF.
    """
    for i in range(16):
        pixels = random_images(1, 40, seed=i)[0, : 5 + 2 * i % 11, : 5 + i]
        path = folder / f"class{i % 3}" / f"{i:02d}.{'jpg' if i % 4 == 1 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if i % 4 == 1:
            exif[ORIENTATION] = 1 + i % 8
        Image.fromarray(pixels).save(path, exif=exif)
    Image.fromarray(random_images(1, 6)[0]).save(folder / "class1" / "16.jpg")
    for i, name in enumerate(("class0/03a.png", "class1/09a.jpg", "class2/15a.png")):
        (folder / name).write_bytes(b"<html>" * (i + 1))
    return folder


def by_pillow(path: Path) -> tuple[int, int]:
    """Return the height and width of an image when it is upright."""
    with Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(ORIENTATION, 1) >= 5
    return (width, height) if turned else (height, width)


def packed(folder: Path) -> Path:
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, folder.name)
    return path


@pytest.mark.parametrize(
    ("source", "encoding", "labels"),
    [
        ("folder", "raw", ()),
        ("folder", "jpg", ()),
        ("class-folders", "png", (0, 2)),
        ("tar", "raw", (1,)),
    ],
)
def test_sizes_are_those_that_pillow_gives(
    tmp_path: Path, monkeypatch, source: str, encoding: str, labels: tuple[int, ...]
) -> None:
    monkeypatch.setattr(build_module, "CHUNK_SAMPLES", 3)
    images = mixed_folder(tmp_path / "images")
    src = packed(images) if source == "tar" else images
    format_ = "class-folders" if labels else "folder"
    fields = {"source": format_, "encoding": encoding, "labels": labels, "max_rejects_pct": 40}
    manifest = build(folder_request(src, tmp_path / "set", **fields))
    with ShardSet.open(tmp_path / "set") as shards:
        names = shards.names()
        sizes = shards.source_sizes(np.arange(len(shards)))
        some = shards.source_sizes(np.array([3, 0, 3]))
    assert manifest.rejects == (len(labels) or 3) and len(names) == manifest.samples
    expected = [by_pillow(images / name) for name in names]
    assert any(height > width for height, width in expected)
    assert (sizes.dtype, sizes.tolist()) == (np.int64, [list(size) for size in expected])
    assert some.tolist() == [sizes[i].tolist() for i in (3, 0, 3)]
    data = (tmp_path / "set" / "sizes.bin").read_bytes()
    assert list(struct.iter_unpack("<II", data)) == expected
    assert hashlib.sha256(data).hexdigest() == manifest.sizes_sha256


def test_the_same_sizes_in_one_go_and_in_two(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(build_module, "CHUNK_SAMPLES", 3)
    src = mixed_folder(tmp_path / "images")
    out = tmp_path / "b" / "set"
    build(folder_request(src, tmp_path / "a" / "set", max_rejects_pct=40, workers=3))
    convert, places = build_module.convert, []

    def failing(source, indexes, first_place, *rest, digest):
        if first_place >= 8 and not places:
            raise OSError("no more")
        if places:
            places.append(first_place)
        return convert(source, indexes, first_place, *rest, digest=digest)

    monkeypatch.setattr(build_module, "convert", failing)
    request = folder_request(src, out, max_rejects_pct=40, workers=1)
    with pytest.raises(UserError, match="no more"):
        build(request)
    assert len(os.listdir(tmp_path / "b" / ".set.partial" / "parts")) == 2
    places.append(-1)
    build(request)
    assert min(places[1:]) == 8, "finished shards were made again"
    assert contents(out) == contents(tmp_path / "a" / "set")


def test_rows_of_an_array_that_are_resized(tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", random_images(7, 9)[:, :4])
    request = BuildRequest("npy", tmp_path / "wide.npy", size_px=4, out=tmp_path / "set")
    build(request)
    with ShardSet.open(tmp_path / "set") as shards:
        assert shards.source_sizes(np.arange(7)).tolist() == [[4, 9]] * 7


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_a_set_that_was_not_resized_has_no_file_and_says_its_own_size(
    tmp_path: Path, encoding: str
) -> None:
    directory = npy_set(tmp_path, encoding=encoding)
    assert not (directory / "sizes.bin").exists()
    assert "sizes_sha256" not in json.loads((directory / "manifest.json").read_text())
    with ShardSet.open(directory) as shards:
        assert shards.source_sizes(np.array([22, 0])).tolist() == [[6, 6]] * 2
        with pytest.raises(IndexError):
            shards.source_sizes(np.array([23]))


def test_only_images_of_another_size_that_are_in_the_set_count(tmp_path: Path, monkeypatch) -> None:
    (src := tmp_path / "images").mkdir()
    for i, size_px in enumerate((6, 7, 6)):
        Image.fromarray(random_images(1, size_px, seed=i)[0]).save(src / f"{i}.png")
    monkeypatch.setattr(
        "shards.building.convert.dali_errors", lambda files: ["no"] + [None] * (len(files) - 1)
    )
    seed = next(s for s in range(99) if np.random.default_rng(s).permutation(3)[0] == 1)
    fields = {"encoding": "png", "max_rejects_pct": 50, "seed": seed}
    manifest = build(folder_request(src, tmp_path / "set", **fields))
    assert (manifest.samples, manifest.resize, manifest.sizes_sha256) == (2, "none", "")


def signed(directory: Path, **changes: object) -> None:
    """Change fields of the manifest (None removes a field), and its digest with them."""
    path = directory / "manifest.json"
    fields = {**json.loads(path.read_text()), **changes}
    fields = {name: fields[name] for name in fields if name != "~sha256"}
    fields = {name: value for name, value in fields.items() if value is not None}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**fields, "~sha256": digest}, indent=1, sort_keys=True) + "\n")


@pytest.fixture
def resized(tmp_path: Path) -> Path:
    """A set of 23 images of 6 px that were resized to 5 px."""
    return npy_set(tmp_path, out=tmp_path / "resized", size_px=5)


def test_a_set_that_was_built_before_opens_and_does_not_know(resized: Path, capsys) -> None:
    (resized / "sizes.bin").unlink()
    signed(resized, sizes_sha256=None)
    fields = json.loads((resized / "manifest.json").read_text())
    assert verify_shards(resized, full=True).sha256 == fields["~sha256"]
    with ShardSet.open(resized) as shards:
        assert shards.source_sizes(np.arange(3)) is None
    info([str(resized)])
    assert "not known (the set was built before they were kept)" in capsys.readouterr().out


def test_info_shows_the_range(tmp_path: Path, resized: Path, capsys) -> None:
    info([str(resized)])
    assert re.search(r"original sizes +all 6 x 6 px +\n", capsys.readouterr().out)
    images = mixed_folder(tmp_path / "images")
    build(folder_request(images, tmp_path / "set", max_rejects_pct=40))
    names = [json.loads(line) for line in (tmp_path / "set" / "names.jsonl").open()]
    heights, widths = zip(*(by_pillow(images / name) for name in names), strict=True)
    info([str(tmp_path / "set")])
    expected = f"{min(heights)} to {max(heights)} px high, {min(widths)} to {max(widths)} px wide"
    assert expected in capsys.readouterr().out


@pytest.mark.slow
def test_every_damage_to_the_sizes_is_refused(resized: Path) -> None:
    path = resized / "sizes.bin"
    whole = path.read_bytes()
    flips = [whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :] for i in range(len(whole))]
    for data in (*flips, whole[:-1], whole + whole[:8], b""):
        path.write_bytes(data)
        with pytest.raises(UserError, match="sizes.bin: its content changed"):
            verify_shards(resized)
    path.unlink()
    with pytest.raises(UserError, match="sizes.bin: listed in the manifest, but No such file"):
        ShardSet.open(resized)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack("<II", 6, 6) * 22, "176 bytes, not the sizes of 23 images"),
        (struct.pack("<II", 6, 6) * 23 + b"\0", "185 bytes, not the sizes of 23 images"),
        (struct.pack("<II", 6, 6) * 22 + struct.pack("<II", 6, 0), "sample 22 has a size of 0 px"),
    ],
)
def test_sizes_that_cannot_be_true_though_the_digests_fit(
    resized: Path, data: bytes, words: str
) -> None:
    (resized / "sizes.bin").write_bytes(data)
    signed(resized, sizes_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(UserError, match=f"sizes.bin: {words}"):
        verify_shards(resized)


def test_a_manifest_speaks_of_sizes_only_where_there_are_some(tmp_path: Path) -> None:
    directory = npy_set(tmp_path)
    path = directory / "manifest.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "sizes_sha256": ""}))
    with pytest.raises(UserError, match=r"manifest.json: .*sizes_sha256"):
        read_manifest(directory)
    signed(directory, sizes_sha256="0" * 64)
    with pytest.raises(UserError, match=r"manifest.json: .*sizes_sha256"):
        read_manifest(directory)


def test_sizes_that_are_cut_under_the_reader(resized: Path) -> None:
    with ShardSet.open(resized) as shards:
        os.truncate(resized / "sizes.bin", 80)
        with pytest.raises(UserError, match="sizes.bin: 80 bytes"):
            shards.source_sizes(np.array([0]))
