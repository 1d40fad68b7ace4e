"""A build that fails, is killed or is interrupted leaves no half set and loses no work."""

import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shards import build as build_module
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from tests.support.paths import ROOT
from tests.support.shard_cases import (
    contents,
    folder_request,
    folder_with_bad_images,
    image_folder,
    npy_set,
    random_images,
)
from tests.support.waiting import LIMIT_S, wait_until


def test_a_failed_build_goes_on_where_it_was(tmp_path: Path, monkeypatch) -> None:
    src = folder_with_bad_images(tmp_path / "images", good=20)
    whole = folder_request(src, tmp_path / "whole" / "set", max_rejects_pct=20, workers=1)
    expected = build(whole)
    request = dataclasses.replace(whole, out=tmp_path / "set")
    convert = build_module.convert

    def failing(source, indexes, first_place, *rest, digest):
        if first_place >= 12:
            raise OSError(errno.EIO, "Input/output error")
        return convert(source, indexes, first_place, *rest, digest=digest)

    monkeypatch.setattr(build_module, "convert", failing)
    with pytest.raises(UserError, match="set: not built: .*Input/output error"):
        build(request)
    partial = tmp_path / ".set.partial"
    noted = [json.loads(path.read_text()) for path in (partial / "parts").glob("*.json")]
    inodes = {
        part["shard"]["file"]: (partial / "set" / part["shard"]["file"]).stat().st_ino
        for part in noted
    }
    assert len(inodes) == 3
    converted = []

    def counting(source, indexes, first_place, *rest, digest):
        converted.append(first_place)
        return convert(source, indexes, first_place, *rest, digest=digest)

    monkeypatch.setattr(build_module, "convert", counting)
    assert build(request) == expected
    assert min(converted) == 12, "finished shards were made again"
    assert contents(request.out) == contents(whole.out)
    assert {name: (request.out / name).stat().st_ino for name in inodes} == inodes
    assert not (tmp_path / ".set.partial").exists()


def leave_all_shards(request: BuildRequest, monkeypatch) -> None:
    """Run a build that fails when all its shards are finished."""
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "_assemble", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(request)


@pytest.mark.parametrize("change", ["seed", "resize", "encoding", "content", "mtime", "new file"])
def test_another_request_does_not_go_on_with_it(tmp_path: Path, monkeypatch, change: str) -> None:
    src = image_folder(tmp_path / "images", 20)
    request = folder_request(src, tmp_path / "set")
    leave_all_shards(request, monkeypatch)
    before = contents(tmp_path / ".set.partial" / "set")
    path = src / "class0" / "0.png"
    if change == "content":
        os.truncate(path, path.stat().st_size - 1)
    elif change == "mtime":
        os.utime(path, ns=(0, 0))
    elif change == "new file":
        (src / "class0" / "new.png").write_bytes(path.read_bytes())
    else:
        other = {"seed": 1, "resize": "pillow-bilinear", "encoding": "png"}[change]
        request = dataclasses.replace(request, **{change: other})
    with pytest.raises(UserError, match=r"\.set\.partial: 5 finished shards of another request"):
        build(request)
    assert contents(tmp_path / ".set.partial" / "set") == before


def test_the_same_request_in_other_words_does(tmp_path: Path, monkeypatch, capsys) -> None:
    src = image_folder(tmp_path / "images", 20)
    leave_all_shards(folder_request(src, src / "set"), monkeypatch)
    (src / ".DS_Store").write_bytes(b"x")
    (tmp_path / "link").symlink_to(src)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build_module, "convert", lambda *_: pytest.fail("made again"))
    build(folder_request(Path("images"), Path("link/set"), workers=1))
    assert capsys.readouterr().err == (
        "note: images: 1 entries are passed over (hidden: 1)\n"
        "link/set: 5 of 5 shards are there already\n"
    )
    monkeypatch.undo()
    whole = folder_request(src, tmp_path / "whole" / "set")
    assert len(os.listdir(src)) == 5
    (src / "set").rename(tmp_path / "resumed")
    build(whole)
    assert contents(whole.out) == contents(tmp_path / "resumed")


def test_shards_of_bad_images_only_are_taken_over_too(tmp_path: Path, monkeypatch) -> None:
    src = folder_with_bad_images(tmp_path / "images")
    request = folder_request(src, tmp_path / "set", max_rejects_pct=20, shard_samples=1)
    leave_all_shards(request, monkeypatch)
    monkeypatch.setattr(build_module, "convert", lambda *_: pytest.fail("made again"))
    assert build(request).rejects == 2


def test_rejects_of_finished_shards_count_in_the_budget(tmp_path: Path, monkeypatch) -> None:
    src = folder_with_bad_images(tmp_path / "images")
    request = folder_request(src, tmp_path / "set", max_rejects_pct=20)
    leave_all_shards(request, monkeypatch)
    with pytest.raises(UserError, match="2 images are bad, max_rejects_pct allows 1"):
        build(dataclasses.replace(request, max_rejects_pct=10))


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_source_that_changes_while_it_is_read(tmp_path: Path, monkeypatch, kind: str) -> None:
    if kind == "folder":
        changed = image_folder(tmp_path / "src", 20) / "class0" / "0.png"
        request = folder_request(tmp_path / "src", tmp_path / "set")
    else:
        changed = tmp_path / "x.npy"
        np.save(changed, random_images(20))
        src = changed
        if kind == "link":
            (src := tmp_path / "link.npy").symlink_to(changed)
        request = BuildRequest("npy", src, 6, tmp_path / "set", shard_samples=4)
    assemble = build_module.describe_source

    def change(*arguments):
        result = assemble(*arguments)
        os.utime(changed, ns=(5, 5))
        return result

    monkeypatch.setattr(build_module, "describe_source", change)
    with pytest.raises(UserError, match="changed while it was read"):
        build(request)
    assert not request.out.exists()


INTERRUPTED = """
import os, signal, sys, time
from shards import build
from shards.terminal import cli
from shards.sources.arrays import Images
def slow(self, indexes, out):
    time.sleep(0.2)
Images.read_into = slow
# Tests that run in the background inherit that SIGINT is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
cli.run(lambda: build.main(sys.argv[1:]))
"""


def await_a_shard(folder: Path, process: subprocess.Popen) -> None:
    """Wait until a build of `folder`/set has finished its first shard."""
    wait_until(
        lambda: list(folder.glob(".set.partial/parts/*.json")) or process.poll() is not None,
        "a shard is finished",
        every_s=0.002,
    )
    assert process.poll() is None, "ended before it wrote a tar"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (signal.SIGINT, "interrupted"),
        (signal.SIGTERM, "ended by SIGTERM"),
        (signal.SIGHUP, "ended by SIGHUP"),
    ],
)
def test_a_signal_ends_it_soon_and_finished_shards_are_kept(
    tmp_path: Path, sent: signal.Signals, said: str
) -> None:
    (src := tmp_path / "x.npy").touch()
    np.save(src, random_images(2000))
    arguments = ["--source", "npy", "--src", str(src), "--size-px", "6"]
    arguments += ["--shard-samples", "128", "--out", str(tmp_path / "set")]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    await_a_shard(tmp_path, process)
    process.send_signal(sent)
    _, error = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 128 + sent
    kept = f"{tmp_path / 'set'}: shards that are finished are kept: [0-9]+"
    assert re.fullmatch(f"{said}: {kept}; the same command goes on\n", error)
    assert list(tmp_path.glob(".set.partial/parts/*.json"))


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch) -> None:
    events: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(handle):
        events.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def watched_rename(src, dst):
        events.append(("rename", os.path.basename(dst)))
        rename(src, dst)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    directory = npy_set(tmp_path)
    published = events.index(("rename", "set"))
    for name in [*os.listdir(directory), "set"]:
        assert ("fsync", name) in events[:published], name
    for k in range(3):
        noted = events.index(("rename", f"0000{k}.json"))
        for suffix in ("tar", "idx"):
            assert ("fsync", f"set-train-0000{k}.{suffix}") in events[:noted]
    assert ("fsync", tmp_path.name) in events[published:]


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.15])
def test_a_killed_build_leaves_nothing_under_the_name(tmp_path: Path, after_s: float) -> None:
    np.save(tmp_path / "x.npy", random_images(15_000, size_px=4))
    arguments = ["--source", "npy", "--src", "x.npy", "--split", "train", "--size-px", "8"]
    arguments += ["--out", "set", "--shard-samples", "125"]
    process = subprocess.Popen(
        [sys.executable, "-m", "shards.build", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    await_a_shard(tmp_path, process)
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=LIMIT_S) == -signal.SIGKILL, "it was done before the kill"
    assert not (tmp_path / "set").exists()
    request = BuildRequest("npy", tmp_path / "x.npy", 8, tmp_path / "set", shard_samples=125)
    build(request)
    assert sorted(os.listdir(tmp_path)) == ["set", "x.npy"]
    build(dataclasses.replace(request, out=tmp_path / "whole", name="set"))
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
