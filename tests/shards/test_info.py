"""The facts that are shown of a set agree with the files that it was built from."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards import info, set_sheet
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.info import class_counts, main, pixel_statistics
from shards.reader import ShardSet
from shards.set_sheet import contact_sheet
from tests.support.commands import run_command
from tests.support.paths import SAMPLE
from tests.support.shard_cases import assert_user_error, npy_set, random_images, sample_set


def class_folders(folder: Path, counts: list[int], size_px: int = 6) -> Path:
    """Build a set with these numbers of samples of the classes c00, c01, ...; all images differ."""
    images = iter(random_images(sum(counts), size_px, 3, seed=8))
    for label, count in enumerate(counts):
        (folder / "src" / f"c{label:02d}").mkdir(parents=True)
        for i in range(count):
            Image.fromarray(next(images)).save(folder / "src" / f"c{label:02d}" / f"{i}.png")
    request = BuildRequest(
        source="class-folders", src=folder / "src", size_px=size_px, out=folder / "classes"
    )
    build(request)
    return request.out


def shown(capsys: pytest.CaptureFixture[str], *directories: Path) -> list[str]:
    """Return the lines that the command prints, without drawing characters and double spaces."""
    main([str(directory) for directory in directories])
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def official_images() -> np.ndarray:
    """Read the images of the sample: uint8 [3000,28,28]."""
    data = gzip.decompress((SAMPLE / "t10k-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)


def official_labels() -> list[int]:
    return list(gzip.decompress((SAMPLE / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:])


def test_a_set_is_shown_with_where_it_came_from(tmp_path, capsys) -> None:
    excluded = tmp_path / "list.jsonl"
    left_out = {str(number): number for number in range(0, 400)}
    excluded.write_text("".join(json.dumps({"name": name}) + "\n" for name in left_out))
    path = sample_set(tmp_path / "shoes", exclude=excluded, seed=7, protocol="my-own", split="test")
    lines = shown(capsys, path)
    labels = official_labels()
    counts = Counter(label for i, label in enumerate(labels) if i not in left_out.values())
    samples = sum(counts[label] for label in (5, 7, 9))
    tars = list(path.glob("*.tar"))
    mega_bytes = sum(tar.stat().st_size for tar in tars) / 1e6
    expected = [
        "set shoes, split test",
        f"folder {path}",
        "protocol my-own",
        f"samples {samples}",
        "images 28 x 28 gray px, raw",
        "resize none",
        "source format idx, labels 5, 7, 9 only",
        "shuffle seed 7",
        f"shards {len(tars)} of up to 400 samples, {mega_bytes:,.1f} MB",
        f"left out {900 - samples} on an exclusion list (sha256 "
        f"{hashlib.sha256(excluded.read_bytes()).hexdigest()[:12]})",
        "held to nothing",
    ]
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        data = (SAMPLE / name).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        expected.append(f"{name}: {len(data):,} bytes, sha256 {sha256[:12]}")
    for line in expected:
        assert line in lines, (line, lines)
    names = [json.loads(line) for line in (path / "names.jsonl").read_text().splitlines()]
    first = lines.index(f"first names {names[0]}")
    assert lines[first + 1 : first + 5] == names[1:5]
    assert json.loads((path / "manifest.json").read_text())["~sha256"][:12] in " ".join(lines)
    pixels = official_images()[[int(name) for name in names]]
    assert f"pixels mean {pixels.mean():.1f} of 0..255 (first {samples} samples)" in lines
    assert f"standard deviation {pixels.std():.1f}" in lines
    for label in range(10):
        rows = [line.split()[:3] for line in lines if line.startswith(f"{label} ")]
        assert rows == ([[str(label)] * 2 + [str(counts[label])]] if label in (5, 7, 9) else [])


def test_rejects_and_names_are_shown_as_they_are(tmp_path, capsys) -> None:
    source = tmp_path / "src" / "[bold]x"
    source.mkdir(parents=True)
    for i in range(3):
        Image.fromarray(random_images(3)[i]).save(source / f"\x1b[2J{i}.png")
    (source / "[red]bad.png").write_bytes(b"no image")
    request = BuildRequest(
        source="class-folders",
        src=tmp_path / "src",
        size_px=4,
        out=tmp_path / "set",
        max_rejects_pct=50.0,
    )
    build(request)
    main([str(request.out)])
    text = capsys.readouterr().out
    assert "1 that could not be decoded (rejects.jsonl):" in text
    assert "  [bold]x/[red]bad.png: cannot be decoded" in text
    assert "[bold]x/\\x1b[2J" in text and "\x1b[2J" not in text
    assert "pillow-bicubic" in text


def test_bars_are_in_proportion(tmp_path, capsys) -> None:
    main([str(class_folders(tmp_path, [30, 15, 1, 3]))])
    lines = capsys.readouterr().out.splitlines()
    bars = {
        f"c{i:02d}": line.count("█") for i in range(4) for line in lines if f"c{i:02d} " in line
    }
    assert bars == {"c00": 30, "c01": 15, "c02": 1, "c03": 3}


def test_many_classes_are_summarised(tmp_path, capsys) -> None:
    counts = [3 + i % 4 for i in range(45)]
    counts[17], counts[30] = 1, 2
    lines = shown(capsys, class_folders(tmp_path, counts))
    summary = f"45 classes of 1 to 6 samples, median {sorted(counts)[22]}; the rarest:"
    (start,) = [i for i, line in enumerate(lines) if line == summary]
    rows = [line.split()[:3] for line in lines[start + 1 :] if "█" in line]
    rarest = sorted(range(45), key=lambda label: (counts[label], label))[:5]
    assert rows == [[str(i), f"c{i:02d}", str(counts[i])] for i in rarest]


def test_counts_are_those_of_the_official_labels(tmp_path) -> None:
    with ShardSet.open(sample_set(tmp_path / "all", labels=())) as shards:
        counts = Counter(official_labels())
        assert class_counts(shards).tolist() == [counts[label] for label in range(10)]
    with ShardSet.open(sample_set(tmp_path / "two", labels=(0, 1))) as shards:
        assert class_counts(shards).tolist() == [counts[0], counts[1], *[0] * 8]
    with ShardSet.open(npy_set(tmp_path)) as shards:
        assert class_counts(shards).tolist() == []


@pytest.mark.parametrize(("limit", "used"), [(10_000, 23), (23, 23), (9, 9)])
def test_statistics_are_those_of_the_first_samples(tmp_path, monkeypatch, limit, used) -> None:
    monkeypatch.setattr(info, "STATISTICS_SAMPLES", limit)
    monkeypatch.setattr(info, "BLOCK_BYTES", 4 * 6 * 6 * 3 + 1)
    with ShardSet.open(npy_set(tmp_path)) as shards:
        pixels = random_images(23)[[int(name) for name in shards.names()[:used]]] / 1.0
        mean, deviation = pixel_statistics(shards)
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(deviation, pixels.std(axis=(0, 1, 2)), rtol=1e-12)


def place_of(picture: np.ndarray, sheet: np.ndarray) -> tuple[int, int]:
    """Find the top and left of a picture in a sheet (both uint8 [H,W,3]); it is there once."""
    height, width, _ = picture.shape
    row = np.lib.stride_tricks.sliding_window_view(sheet, width, axis=1)
    tops, lefts = np.nonzero((row == picture[0].T).all(axis=(2, 3)))
    places = [
        (int(top), int(left))
        for top, left in zip(tops, lefts, strict=True)
        if np.array_equal(sheet[top : top + height, left : left + width], picture)
    ]
    assert len(places) == 1, places
    return places[0]


def assert_rows(sheet: np.ndarray, rows: list[list[np.ndarray]]) -> None:
    """Check that the pictures stand in rows and columns, in this order, and that no other does."""
    places = [[place_of(picture, sheet) for picture in row] for row in rows]
    tops = [{top for top, _ in row} for row in places]
    assert all(len(top) == 1 for top in tops)
    assert sorted(tops, key=min) == tops
    longest = [left for _, left in max(places, key=len)]
    assert longest == sorted(set(longest))
    for row in places:
        assert [left for _, left in row] == longest[: len(row)]
    rest = sheet.copy()
    for row, pictures in zip(places, rows, strict=True):
        for (top, left), picture in zip(row, pictures, strict=True):
            rest[top : top + picture.shape[0], left : left + picture.shape[1]] = 255
    # The rest is white, except for the row titles before the first column.
    assert (rest[:, longest[0] :] == 255).all()


def enlarged(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Draw each pixel as a square: uint8 [H*factor,W*factor,3]."""
    rgb = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return np.kron(rgb, np.ones((factor, factor, 1), np.uint8))


@pytest.mark.slow
def test_a_labelled_sheet_has_a_row_for_each_class(tmp_path, capsys) -> None:
    path = sample_set(tmp_path / "shoes")
    main([str(path), "--sheet", str(tmp_path / "new" / "sheet.png")])
    assert "sheet.png: the first samples" in capsys.readouterr().out
    with Image.open(tmp_path / "new" / "sheet.png") as image:
        assert image.format == "PNG"
        sheet = np.asarray(image.convert("RGB"))
    names = [json.loads(line) for line in (path / "names.jsonl").read_text().splitlines()]
    labels, images = official_labels(), official_images()
    rows = []
    for label in (5, 7, 9):
        ids = [int(name) for name in names if labels[int(name)] == label][:10]
        rows.append([enlarged(images[i][..., None], 3) for i in ids])
    assert_rows(sheet, rows)
    # Each row has a title to its left, which is not higher than the row.
    first_left = place_of(rows[0][0], sheet)[1]
    inked = (sheet[:, :first_left] < 100).any(axis=(1, 2))
    for row in rows:
        top = place_of(row[0], sheet)[0]
        assert inked[top : top + 84].any()
        inked[top : top + 84] = False
    assert not inked.any()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 10, 23, 75])
def test_an_unlabelled_sheet_has_the_first_samples(tmp_path, count) -> None:
    path = npy_set(tmp_path, count)
    with ShardSet.open(path) as shards:
        sheet = np.asarray(contact_sheet(shards))
        images = random_images(count)[[int(name) for name in shards.names()[:60]]]
    pictures = [enlarged(pixels, 16) for pixels in images]
    assert_rows(sheet, [pictures[i : i + 10] for i in range(0, len(pictures), 10)])


@pytest.mark.slow
def test_a_sheet_shows_some_classes_of_many(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(set_sheet, "MAX_SHEET_ROWS", 3)
    with ShardSet.open(class_folders(tmp_path, [2, 12, 1, 4, 1])) as shards:
        sheet = np.asarray(contact_sheet(shards))
        names = shards.names()
    rows = []
    for label in range(3):
        paths = [name for name in names if name.startswith(f"c{label:02d}/")][:10]
        images = [np.asarray(Image.open(tmp_path / "src" / path)) for path in paths]
        rows.append([enlarged(image, 16) for image in images])
    assert_rows(sheet, rows)


@pytest.mark.parametrize(("size_px", "shown_px"), [(97, 97), (256, 256), (257, 129), (600, 200)])
def test_a_sheet_reduces_large_images(tmp_path, size_px, shown_px) -> None:
    np.save(tmp_path / "large.npy", random_images(1, size_px))
    path = npy_set(tmp_path, src=tmp_path / "large.npy", size_px=size_px, encoding="png")
    with ShardSet.open(path) as shards:
        sheet = contact_sheet(shards)
    width = Counter((np.asarray(sheet) < 250).any(axis=(0, 2)).tolist())[True]
    assert width == shown_px


def test_several_sets_are_a_row_each(tmp_path, capsys) -> None:
    paths = [sample_set(tmp_path / "shoes", protocol="my-own"), npy_set(tmp_path)]
    lines = shown(capsys, *paths)
    for path, samples, images, classes in zip(
        paths, ("900", "23"), ("28x28x1 raw", "6x6x3 raw"), ("10", "0"), strict=True
    ):
        mega_bytes = sum(tar.stat().st_size for tar in path.glob("*.tar")) / 1e6
        assert f"{path} {samples} {images} {classes} {mega_bytes:,.1f} 0" in lines
    assert "test, my-own resize none" in lines and "train resize none" in lines


def test_mistakes_are_one_line(tmp_path) -> None:
    path = npy_set(tmp_path)
    there = tmp_path / "there.png"
    there.write_text("mine")
    for argv, words in (
        ([], "no folder"),
        ([tmp_path / "none"], "no such folder"),
        ([path, path, "--sheet", tmp_path / "new.png"], "sheet shows one set, 2 were named"),
        ([path, "--sheet", tmp_path / "new.jpg"], "expected the name of a .png"),
        ([path, "--sheet", there], "exists already"),
    ):
        with pytest.raises(UserError, match=words):
            main([str(argument) for argument in argv])
    assert there.read_text() == "mine"
    assert not list(tmp_path.glob("new*"))


@pytest.mark.slow
def test_a_damaged_set_is_not_shown(tmp_path) -> None:
    path = npy_set(tmp_path)
    result = run_command("-m", "shards.info", path)
    assert result.returncode == 0 and "samples" in result.stdout, result
    with open(next(path.glob("*.tar")), "r+b") as tar:
        tar.truncate(2048)
    result = run_command("-m", "shards.info", path)
    assert_user_error(result, "2048 bytes")
    assert result.stdout == ""
