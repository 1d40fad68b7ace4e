"""Building: what is stored, in which order, and that nothing but the request decides the bytes."""

import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards import build as build_module
from shards.build import BuildRequest, build, fit
from shards.cli import UserError
from shards.manifest import read_manifest
from shards.reader import ShardSet
from tests.shard_cases import (
    ROOT,
    SAMPLE,
    assert_user_error,
    contents,
    npy_set,
    random_images,
    run_module,
    sample_set,
)


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


def test_stored_pixels_are_the_shuffled_source(tmp_path: Path) -> None:
    directory = npy_set(tmp_path, count=23, seed=5)
    order = np.random.default_rng(5).permutation(23)
    stored = []
    for tar_path in sorted(directory.glob("*.tar")):
        with tarfile.open(tar_path) as tar:
            stored += [tar.extractfile(member).read() for member in tar]
    assert stored == [image.tobytes() for image in random_images(23)[order]]
    manifest = read_manifest(directory)
    assert [shard.samples for shard in manifest.shards] == [10, 10, 3]
    assert [shard.file for shard in manifest.shards] == [f"set-train-0000{k}.tar" for k in range(3)]
    assert (manifest.resize, manifest.channels, manifest.classes) == ("none", 3, ())
    assert manifest.shuffle_seed == 5
    assert sorted(os.listdir(directory)) == sorted(
        ["manifest.json"]
        + [name for shard in manifest.shards for name in (shard.file, shard.idx_file)]
    )


def test_labels_filter_and_keep_their_numbers(tmp_path: Path) -> None:
    directory = sample_set(tmp_path / "set", labels=(9, 5))
    manifest = read_manifest(directory)
    assert (manifest.samples, manifest.labels, len(manifest.classes)) == (600, (5, 9), 10)
    with ShardSet.open(directory) as shards:
        labels = shards.labels(np.arange(600))
    assert np.bincount(labels).tolist() == [0, 0, 0, 0, 0, 300, 0, 0, 0, 300]
    assert len(np.unique(labels[:50])) == 2, "neighbours are of one class: not shuffled"


def test_folder_is_resized_by_pillow_with_names_and_labels(tmp_path: Path) -> None:
    src = image_folder(tmp_path / "images")
    manifest = build(folder_request(src, tmp_path / "set", class_folders=True))
    assert (manifest.resize, manifest.classes) == ("pillow-bicubic", ("class0", "class1", "class2"))
    with ShardSet.open(tmp_path / "set") as shards:
        names = shards.names()
        pixels, labels = shards.read(np.arange(9)), shards.labels(np.arange(9))
    assert names != sorted(names)
    assert sorted(names) == sorted(f"class{i % 3}/{i}.png" for i in range(9))
    for i, name in enumerate(names):
        with Image.open(src / name) as image:
            expected = image if image.size == (6, 6) else image.resize((6, 6), Image.BICUBIC)
            assert np.array_equal(pixels[i], np.asarray(expected))
        assert labels[i] == int(name[5])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stored", [1, 3])
def test_fit(channels: int, stored: int) -> None:
    pixels = random_images(1, size_px=9, channels=channels)[0, :5]
    image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
    image = image.convert("RGB" if stored == 3 else "L").resize((7, 7), Image.BICUBIC)
    assert np.array_equal(fit(pixels, 7, stored), np.asarray(image).reshape(7, 7, stored))
    same = random_images(1, size_px=9, channels=stored)[0]
    assert np.array_equal(fit(same, 9, stored), same)


def test_resize_is_recorded_only_when_it_happened(tmp_path: Path) -> None:
    assert read_manifest(npy_set(tmp_path)).resize == "none"
    assert (
        read_manifest(npy_set(tmp_path, out=tmp_path / "b", size_px=5)).resize == "pillow-bicubic"
    )
    assert read_manifest(npy_set(tmp_path, out=tmp_path / "c", channels=1)).channels == 1


def test_same_bytes_with_any_number_of_workers(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(build_module, "CHUNK_SAMPLES", 3)
    src = image_folder(tmp_path / "images", count=20)
    for workers in (1, 2, 4):
        out = tmp_path / str(workers) / "set"
        build(folder_request(src, out, workers=workers, class_folders=True))
    assert len(contents(tmp_path / "1" / "set")) == 12
    assert contents(tmp_path / "1" / "set") == contents(tmp_path / "2" / "set")
    assert contents(tmp_path / "1" / "set") == contents(tmp_path / "4" / "set")


def test_same_bytes_whatever_the_surroundings(tmp_path: Path) -> None:
    src = image_folder(tmp_path / "images")
    build(folder_request(src, tmp_path / "a" / "set"))
    for path in src.rglob("*.png"):
        os.utime(path, (10**9, 10**9))
    arguments = ["--source", "folder", "--src", src, "--split", "train", "--size-px", 6]
    arguments += ["--shard-samples", 4, "--out", tmp_path / "b" / "set"]
    script = (
        "import os, sys; os.umask(0o077); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    subprocess.run(
        [sys.executable, "-c", script, "-m", "shards.build", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "3"},
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert contents(tmp_path / "a" / "set") == contents(tmp_path / "b" / "set")
    assert (tmp_path / "b" / "set").stat().st_mode & 0o777 == 0o700


def test_another_seed_is_another_order_of_the_same(tmp_path: Path) -> None:
    everything = []
    for seed in (0, 1):
        with ShardSet.open(npy_set(tmp_path, out=tmp_path / f"{seed}", seed=seed)) as shards:
            everything.append([image.tobytes() for image in shards.read(np.arange(23))])
    assert everything[0] != everything[1]
    assert sorted(everything[0]) == sorted(everything[1])


def test_command_line_prints_one_line(tmp_path: Path) -> None:
    arguments = ["--source", "idx", "--src", SAMPLE, "--split", "test", "--size-px", 32]
    arguments += ["--labels", 5, 7, 9, "--channels", 3, "--out", tmp_path / "a.b c"]
    result = run_module("shards.build", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{tmp_path}/a.b c: 900 samples of 32x32x3 in 1 shards, 4.1 MB\n"
    assert read_manifest(tmp_path / "a.b c").name == "a-b-c"


ERRORS = [
    (["--src", "nowhere"], ["nowhere", "no such folder"]),
    (["--labels", "5", "11"], ["labels [11] unknown"]),
    (["--size-px", "0"], ["size_px is 0", "1 to 1024"]),
    (["--size-px", "1025"], ["size_px is 1025"]),
    (["--shard-samples", "0"], ["shard_samples is 0"]),
    (["--workers", "0"], ["workers is 0"]),
    (["--seed", "-1"], ["seed is -1"]),
    (["--split", "val"], ["split is 'val'"]),
    (["--split", "../up"], ["split is '../up'"]),
    (["--name", "a/b"], ["name is 'a/b'"]),
    (["--classes", "a"], ["label 9 has no class"]),
    (["--class-folders"], ["class_folders"]),
]


@pytest.mark.parametrize(("arguments", "words"), ERRORS, ids=[" ".join(e[0]) for e in ERRORS])
def test_mistakes_are_told_in_one_line(tmp_path: Path, arguments, words, capsys) -> None:
    given = ["--source", "idx", "--src", str(SAMPLE), "--split", "test", "--size-px", "28"]
    given += ["--out", str(tmp_path / "out" / "set"), *arguments]
    with pytest.raises(SystemExit) as exit_:
        build_module.cli.run(lambda: build_module.main(given))
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert os.listdir(tmp_path) == []


def test_labels_of_an_unlabelled_source_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="images.npy is unlabelled"):
        npy_set(tmp_path, labels=(1,))
    src = image_folder(tmp_path / "images")
    with pytest.raises(UserError, match="images is unlabelled"):
        build(folder_request(src, tmp_path / "set", labels=(0,)))
    (src / "class3").mkdir()
    with pytest.raises(UserError, match="no images with labels"):
        build(folder_request(src, tmp_path / "set", labels=(3,), class_folders=True))


def test_existing_output_stays_as_it_is(tmp_path: Path) -> None:
    directory = npy_set(tmp_path)
    before = contents(directory)
    arguments = ["--source", "npy", "--src", tmp_path / "missing.npy", "--split", "train"]
    arguments += ["--size-px", 6, "--out", directory]
    assert_user_error(run_module("shards.build", *arguments), "set: exists already")
    assert contents(directory) == before


def test_a_bad_image_leaves_nothing(tmp_path: Path) -> None:
    src = image_folder(tmp_path / "images")
    (src / "class1" / "bad.png").write_bytes(b"<html>")
    arguments = ["--source", "folder", "--src", src, "--split", "train", "--size-px", 6]
    result = run_module("shards.build", *arguments, "--out", tmp_path / "set")
    assert_user_error(result, "class1/bad.png: cannot be decoded")
    assert os.listdir(tmp_path) == ["images"]


def test_an_unwritable_parent_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="not written"):
        npy_set(tmp_path, out=tmp_path / "file" / "set")


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.15])
def test_a_killed_build_leaves_nothing_under_the_name(tmp_path: Path, after_s: float) -> None:
    np.save(tmp_path / "x.npy", random_images(30_000, size_px=4))
    arguments = ["--source", "npy", "--src", "x.npy", "--split", "train", "--size-px", "8"]
    arguments += ["--out", "set", "--shard-samples", "500"]
    process = subprocess.Popen(
        [sys.executable, "-m", "shards.build", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".set.partial-*/*.tar")):
        assert process.poll() is None, "ended before it wrote a tar"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL, "it was done before the kill"
    assert not (tmp_path / "set").exists()
    build(BuildRequest("npy", tmp_path / "x.npy", size_px=4, out=tmp_path / "set"))
    assert sorted(os.listdir(tmp_path)) == ["set", "x.npy"]
