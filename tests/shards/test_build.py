"""A build stores the right images in the right order, and only the request decides the bytes."""

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards import build as build_module
from shards.build import build
from shards.building import source_files
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.manifest_file import read_manifest
from shards.reader import ShardSet
from shards.sources.registry import FORMATS
from shards.verify import verify_shards
from tests.support.commands import run_command
from tests.support.paths import ROOT, SAMPLE
from tests.support.shard_cases import (
    assert_user_error,
    contents,
    folder_request,
    folder_with_bad_images,
    image_folder,
    npy_set,
    random_images,
    sample_set,
)
from tests.support.waiting import LIMIT_S


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
        ["manifest.json", "names.jsonl"]
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
    manifest = build(folder_request(src, tmp_path / "set", source="class-folders"))
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
        build(folder_request(src, out, workers=workers, source="class-folders"))
    assert len(contents(tmp_path / "1" / "set")) == 13
    assert contents(tmp_path / "1" / "set") == contents(tmp_path / "2" / "set")
    assert contents(tmp_path / "1" / "set") == contents(tmp_path / "4" / "set")


@pytest.mark.slow
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
        timeout=LIMIT_S,
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


@pytest.mark.slow
def test_command_line_prints_one_line(tmp_path: Path) -> None:
    arguments = ["--source", "idx", "--src", SAMPLE, "--split", "test", "--size-px", 32]
    arguments += ["--labels", 5, 7, 9, "--channels", 3, "--out", tmp_path / "a.b c"]
    result = run_command("-m", "shards.build", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{tmp_path}/a.b c: 900 samples of 32x32x3 in 1 shards, 4.1 MB\n"
    assert read_manifest(tmp_path / "a.b c").name == "a-b-c"


ERRORS = [
    (["--src", "nowhere"], ["nowhere", "no such file or folder"]),
    (["--labels", "5", "11"], ["labels [11] unknown"]),
    (["--size-px", "0"], ["size_px is 0", "1 to 1024"]),
    (["--size-px", "1025"], ["size_px is 1025"]),
    (["--shard-samples", "0"], ["shard_samples is 0"]),
    (["--workers", "0"], ["workers is 0"]),
    (["--seed", "-1"], ["seed is -1"]),
    (["--split", "val"], ["split is 'val'"]),
    (["--split", "../up"], ["split is '../up'"]),
    (["--name", "a/b"], ["name is 'a/b'"]),
    (["--name", ""], ["name is ''"]),
    (["--exclude", ""], ["--exclude is an empty path"]),
    (["--component", "jpg"], ["component is 'jpg'", "samples of idx have none"]),
    (["--classes", "a"], ["classes: 1 names", "has 10"]),
    (["--max-rejects-pct", "101"], ["max_rejects_pct is 101.0"]),
    (["--source", "cifar"], ["cifar", "cifar10"]),
    (["--exclude", "nowhere.jsonl"], ["nowhere.jsonl: No such file"]),
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
    with pytest.raises(UserError, match=r"labels \[3\] unknown, .*images has 3"):
        build(folder_request(src, tmp_path / "set", labels=(3,), source="class-folders"))


@pytest.mark.slow
def test_existing_output_stays_as_it_is(tmp_path: Path) -> None:
    directory = npy_set(tmp_path)
    before = contents(directory)
    arguments = ["--source", "npy", "--src", tmp_path / "missing.npy", "--split", "train"]
    arguments += ["--size-px", 6, "--out", directory]
    assert_user_error(run_command("-m", "shards.build", *arguments), "set: exists already")
    assert contents(directory) == before


@pytest.mark.parametrize("encoding", ["raw", "png", "jpg"])
def test_bad_images_are_listed_and_the_rest_is_whole(tmp_path: Path, encoding: str) -> None:
    src = folder_with_bad_images(tmp_path / "images")
    fields = {"max_rejects_pct": 20, "encoding": encoding, "source": "class-folders"}
    manifest = build(folder_request(src, tmp_path / "set", **fields))
    assert (manifest.samples, manifest.rejects) == (9, 2)
    rejects = [json.loads(line) for line in (tmp_path / "set" / "rejects.jsonl").open()]
    assert {r["name"] for r in rejects} == {"class1/page.jpg", "class2/cut.png"}
    assert all(r["reason"].startswith("cannot be decoded: ") for r in rejects)
    with ShardSet.open(tmp_path / "set") as shards:
        names, labels = shards.names(), shards.labels(np.arange(9))
        pixels = shards.read(np.arange(9))
    assert sorted(names) == sorted(f"class{i % 3}/{i}.png" for i in range(9))
    assert labels.tolist() == [int(name[5]) for name in names]
    keys = []
    for tar_path in sorted((tmp_path / "set").glob("*.tar")):
        with tarfile.open(tar_path) as tar:
            keys += [int(name[:9]) for name in tar.getnames() if not name.endswith(".cls")]
    everything = sorted([*names, *(r["name"] for r in rejects)])
    order = np.random.default_rng(0).permutation(11)
    assert keys == [i for i in range(11) if everything[order[i]] in names], (
        "not places of the order"
    )
    if encoding != "jpg":
        for name, image in zip(names, pixels, strict=True):
            with Image.open(src / name) as expected:
                resized = (
                    expected.resize((6, 6), Image.BICUBIC) if expected.size != (6, 6) else expected
                )
                assert np.array_equal(image, np.asarray(resized))


def test_a_shard_of_bad_images_only_is_left_out(tmp_path: Path) -> None:
    src = folder_with_bad_images(tmp_path / "images")
    request = folder_request(src, tmp_path / "set", max_rejects_pct=20, shard_samples=1)
    manifest = build(request)
    assert (manifest.samples, len(manifest.shards)) == (9, 9)
    assert len({shard.file for shard in manifest.shards}) == 9
    assert verify_shards(tmp_path / "set", full=True) == manifest


@pytest.mark.parametrize(("allowed_pct", "fails"), [(18.1, True), (18.2, False), (0, True)])
def test_the_reject_budget(tmp_path: Path, allowed_pct: float, fails: bool) -> None:
    src = folder_with_bad_images(tmp_path / "images")  # 2 of 11 = 18.18 %
    request = folder_request(src, tmp_path / "set", max_rejects_pct=allowed_pct, shard_samples=20)
    if not fails:
        assert build(request).rejects == 2
        return
    with pytest.raises(UserError, match=r"images are bad, max_rejects_pct allows [01]: class") as e:
        build(request)
    assert "page.jpg (cannot be decoded" in str(e.value) or "cut.png (cannot" in str(e.value)
    assert os.listdir(tmp_path) == ["images"]


def test_nothing_but_bad_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"x")
    with pytest.raises(UserError, match="images: all 1 images are bad"):
        build(folder_request(tmp_path / "images", tmp_path / "set", max_rejects_pct=100))
    assert not (tmp_path / "set").exists()


def test_a_jpeg_of_the_right_size_is_stored_as_it_is(tmp_path: Path) -> None:
    (src := tmp_path / "images").mkdir()
    for i, size_px in enumerate((6, 7)):
        Image.fromarray(random_images(1, size_px)[0]).save(src / f"{i}.jpg", quality=80)
    build(folder_request(src, tmp_path / "set", encoding="jpg"))
    (tar_path,) = (tmp_path / "set").glob("*.tar")
    with ShardSet.open(tmp_path / "set") as shards:
        names = shards.names()
    with tarfile.open(tar_path) as tar:
        stored = dict(zip(names, [tar.extractfile(member).read() for member in tar], strict=True))
    assert stored["0.jpg"] == (src / "0.jpg").read_bytes()
    with Image.open(io.BytesIO(stored["1.jpg"])) as image:
        assert image.size == (6, 6)


def test_an_image_that_only_pillow_decodes_is_no_jpg_of_a_set(tmp_path: Path, monkeypatch) -> None:
    (src := tmp_path / "images").mkdir()
    for i in range(3):
        Image.fromarray(random_images(1, seed=i)[0]).save(src / f"{i}.jpg")
    bad = (src / "1.jpg").read_bytes()
    monkeypatch.setattr(
        "shards.building.convert.dali_errors",
        lambda files: ["no" if f == bad else None for f in files],
    )
    manifest = build(folder_request(src, tmp_path / "set", encoding="jpg", max_rejects_pct=50))
    assert (manifest.samples, manifest.rejects) == (2, 1)
    assert json.loads((tmp_path / "set" / "rejects.jsonl").read_text()) == {
        "name": "1.jpg",
        "reason": "no",
    }


def exclusions(path: Path, names: list[str]) -> Path:
    path.write_text("".join(json.dumps({"name": name, "why": "copy"}) + "\n" for name in names))
    return path


def test_excluded_images_are_left_out_and_others_keep_no_gap(tmp_path: Path) -> None:
    src = image_folder(tmp_path / "images")
    listed = exclusions(tmp_path / "list", ["class0/0.png", "class1/7.png"])
    manifest = build(folder_request(src, tmp_path / "set", exclude=listed))
    assert (manifest.samples, manifest.excluded) == (7, 2)
    assert manifest.exclude_sha256 == hashlib.sha256(listed.read_bytes()).hexdigest()
    with ShardSet.open(tmp_path / "set") as shards:
        expected = {f"class{i % 3}/{i}.png" for i in range(9)} - {"class0/0.png", "class1/7.png"}
        assert sorted(shards.names()) == sorted(expected)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"name": "class0/0.png"}\n{"name": "other.png"}\n', "1 names are not in .*'other.png'"),
        ('{"name": "class0/0.png"}\nclass1/7.png\n', "list, line 2: .*expected"),
        ('{"file": "class0/0.png"}\n', "list, line 1: "),
        ('{"name": 3}\n', "list, line 1: "),
    ],
)
def test_wrong_exclusion_lists(tmp_path: Path, content: str, words: str) -> None:
    src = image_folder(tmp_path / "images")
    (tmp_path / "list").write_text(content)
    with pytest.raises(UserError, match=words):
        build(folder_request(src, tmp_path / "set", exclude=tmp_path / "list"))


def test_published_counts_and_md5(tmp_path: Path, monkeypatch) -> None:
    np.save(tmp_path / "x.npy", random_images(8))
    md5 = hashlib.md5((tmp_path / "x.npy").read_bytes()).hexdigest()
    request = BuildRequest("npy", tmp_path / "x.npy", size_px=6, out=tmp_path / "set")

    def published(**facts) -> None:
        known = dataclasses.replace(FORMATS["npy"], **facts)
        monkeypatch.setitem(FORMATS, "npy", known)

    published(counts={"train": 9}, md5={"x.npy": md5})
    with pytest.raises(UserError, match="x.npy: 8 images in split train, published are 9"):
        build(request)
    assert build(dataclasses.replace(request, count=False)).checks == ("md5",)
    published(counts={"train": 8}, md5={"x.npy": "0" * 32})
    other = dataclasses.replace(request, out=tmp_path / "other")
    with pytest.raises(UserError, match=f"x.npy: md5 is {md5}, published is 0{{32}}"):
        build(other)
    assert build(dataclasses.replace(other, md5=False)).checks == ("count",)
    published(counts={"train": 8}, md5={"x.npy": md5})
    assert build(dataclasses.replace(request, out=tmp_path / "c")).checks == ("md5", "count")


def test_the_digest_of_a_folder(tmp_path: Path) -> None:
    src = image_folder(tmp_path / "images")
    total = 0
    for path in src.rglob("*.png"):
        name = path.relative_to(src).as_posix().encode()
        content = hashlib.sha256(path.read_bytes()).digest()
        total += int(hashlib.sha256(name + b"\0" + content).hexdigest(), 16)
    (source,) = build(folder_request(src, tmp_path / "set")).sources
    assert source.sha256 == hex(total % 2**256)[2:].zfill(64)
    assert source.bytes == sum(path.stat().st_size for path in src.rglob("*.png"))
    assert source.file == "images"


def test_unselected_images_are_in_the_digest_of_a_folder(tmp_path: Path) -> None:
    src = image_folder(tmp_path / "images")
    fields = {"source": "class-folders"}
    (everything,) = build(folder_request(src, tmp_path / "a", **fields)).sources
    (some,) = build(folder_request(src, tmp_path / "b", labels=(1,), **fields)).sources
    assert some == everything
    listed = exclusions(tmp_path / "list", ["class0/0.png"])
    (excluded,) = build(folder_request(src, tmp_path / "c", exclude=listed, **fields)).sources
    assert excluded == everything


def test_a_digest_that_takes_longer_than_the_shards_is_waited_for(
    tmp_path: Path, monkeypatch
) -> None:
    describe = source_files.describe
    finished = threading.Event()

    def slow(*arguments):
        assert finished.wait(20)
        return describe(*arguments)

    build_shards = build_module._build_shards

    def then_digest(*arguments):
        build_shards(*arguments)
        finished.set()

    monkeypatch.setattr(source_files, "describe", slow)
    monkeypatch.setattr(build_module, "_build_shards", then_digest)
    directory = npy_set(tmp_path)
    expected = hashlib.sha256((tmp_path / "images.npy").read_bytes()).hexdigest()
    assert [source.sha256 for source in read_manifest(directory).sources] == [expected]


def test_large_samples_come_in_small_chunks(tmp_path: Path, monkeypatch) -> None:
    convert, seen = build_module.convert, []

    def counting(source, indexes, *rest, digest):
        seen.append(len(indexes))
        return convert(source, indexes, *rest, digest=digest)

    monkeypatch.setattr(build_module, "convert", counting)
    monkeypatch.setattr(build_module, "CHUNK_BYTES", 3 * 6 * 6 * 3)
    npy_set(tmp_path)
    assert seen == [3, 3, 3, 1, 3, 3, 3, 1, 3]


def test_no_memory_is_not_a_bad_image(tmp_path: Path, monkeypatch) -> None:
    src = image_folder(tmp_path / "images")

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", full)
    with pytest.raises(MemoryError):
        build(folder_request(src, tmp_path / "set", max_rejects_pct=100))
    assert os.listdir(tmp_path) == ["images"]


def test_an_unwritable_parent_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="not built"):
        npy_set(tmp_path, out=tmp_path / "file" / "set")
