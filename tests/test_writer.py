"""Tars and their publication."""

import fcntl
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from nvidia.dali import fn, pipeline_def

from shards.cli import UserError
from shards.writer import ShardWriter, member_header, publishing, write_names
from tests.shard_cases import ROOT, contents, random_images


def write_tar(folder: Path, images: np.ndarray, labels: list[int] | None, first_id: int = 0):
    writer = ShardWriter(folder, "x-train-00000.tar", first_id)
    for i, image in enumerate(images):
        writer.add(image, None if labels is None else labels[i])
    return writer.finish()


@pytest.mark.parametrize("size", [0, 1, 511, 512, 3072, 8**8])
@pytest.mark.parametrize("extension", ["bin", "cls"])
def test_header_is_tarfiles(size: int, extension: str) -> None:
    info = tarfile.TarInfo(f"000001234.{extension}")
    info.size, info.mode, info.mtime = size, 0o644, 0
    assert member_header("000001234", extension, size) == info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("size_px", [6, 32])  # 108 bytes, and a whole number of blocks
def test_tarfile_webdataset_and_dali_read_the_same(tmp_path: Path, size_px: int) -> None:
    images, labels = random_images(17, size_px), [int(i * 7 % 12) for i in range(17)]
    shard = write_tar(tmp_path, images, labels, first_id=40)
    path = tmp_path / shard.file
    assert shard.samples == 17
    assert shard.bytes == path.stat().st_size
    assert path.read_bytes()[-1024:] == bytes(1024), "a tar ends with two empty blocks"

    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert [m.name for m in members[:3]] == ["000000040.bin", "000000040.cls", "000000041.bin"]
        assert len(members) == 34
        for member in members:
            facts = member.mode, member.mtime, member.uid, member.gid, member.uname, member.gname
            assert facts == (0o644, 0, 0, 0, "", "")
            assert member.pax_headers == {}
        assert tar.extractfile(members[32]).read() == images[16].tobytes()
        assert tar.extractfile(members[33]).read() == b"%d" % labels[16]

    read = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in read] == [f"{40 + i:09d}" for i in range(17)]
    assert [sample["bin"] for sample in read] == [image.tobytes() for image in images]
    assert [int(sample["cls"]) for sample in read] == labels

    @pipeline_def(batch_size=17, num_threads=1, device_id=None)
    def pipeline():
        return tuple(
            fn.readers.webdataset(
                paths=[str(path)],
                index_paths=[str(path.with_suffix(".idx"))],
                ext=["bin", "cls"],
                missing_component_behavior="error",
                name="reader",
            )
        )

    pipe = pipeline()
    pixels, texts = pipe.run()
    assert pipe.reader_meta("reader")["epoch_size"] == 17
    assert [bytes(pixels.at(i)) for i in range(17)] == [image.tobytes() for image in images]
    assert [int(bytes(texts.at(i))) for i in range(17)] == labels


def test_unlabelled_members(tmp_path: Path) -> None:
    shard = write_tar(tmp_path, random_images(3), None)
    with tarfile.open(tmp_path / shard.file) as tar:
        assert tar.getnames() == ["000000000.bin", "000000001.bin", "000000002.bin"]


def test_any_name_comes_back(tmp_path: Path) -> None:
    names = ["a/b.jpg", "line\nbreak.png", "\u202ertl.png", os.fsdecode(b"\xff.jpg"), " ", "é"]
    write_names(tmp_path, names)
    lines = (tmp_path / "names.jsonl").read_text("ascii").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == names


def test_publishes_whole(tmp_path: Path) -> None:
    out = tmp_path / "new" / "set"
    with publishing(out) as folder:
        (folder / "file").write_text("x")
        assert not out.exists()
    assert contents(out) == {"file": b"x"}
    assert os.listdir(out.parent) == ["set"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "other").write_text("kept")
    with pytest.raises(error), publishing(tmp_path / "set") as folder:
        (folder / "file").write_text("x")
        raise error
    assert contents(tmp_path) == {"other": b"kept"}


def test_a_full_disk_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set: not written.*No space"), publishing(tmp_path / "set"):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_existing_output_is_refused_before_any_work(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "set"
    if kind == "folder":
        out.mkdir()
    elif kind == "file":
        out.write_text("x")
    else:
        out.symlink_to("nowhere")
    with pytest.raises(UserError, match="set: exists"), publishing(out):
        pytest.fail("work was started")
    assert os.listdir(tmp_path) == ["set"]


def test_output_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "set"
    with pytest.raises(UserError, match="exists"), publishing(out) as folder:
        (folder / "file").write_text("mine")
        out.mkdir()
        (out / "file").write_text("theirs")
    assert contents(out) == {"file": b"theirs"}
    assert os.listdir(tmp_path) == ["set"]


KILLED = """
import os, signal, sys
from pathlib import Path
from shards.writer import publishing
with publishing(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "set"
    killed = subprocess.run([sys.executable, "-c", KILLED, out], cwd=ROOT, timeout=30)
    assert killed.returncode == -9
    left = os.listdir(tmp_path)
    assert len(left) == 1
    assert left[0].startswith(".set.partial-")
    with publishing(out):
        pass
    assert os.listdir(tmp_path) == ["set"]


def test_two_builds_of_one_output(tmp_path: Path) -> None:
    out = tmp_path / "set"
    with pytest.raises(UserError, match="exists already"), publishing(out) as slow:
        (slow / "file").write_text("slow")
        with publishing(out) as fast:
            (fast / "file").write_text("fast")
        assert contents(slow) == {"file": b"slow"}, "taken for the remains of a killed build"
    assert contents(out) == {"file": b"fast"}
    assert os.listdir(tmp_path) == ["set"]


def test_a_running_builds_folder_is_not_removed(tmp_path: Path) -> None:
    running = tmp_path / ".set.partial-running"
    running.mkdir()
    handle = os.open(running, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with publishing(tmp_path / "set"):
        pass
    os.close(handle)
    assert sorted(os.listdir(tmp_path)) == [".set.partial-running", "set"]
