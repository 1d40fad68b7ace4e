"""Tars are read correctly by three independent readers."""

import json
import os
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import webdataset
from nvidia.dali import fn, pipeline_def

from shards.format.json_lines import json_lines
from shards.format.writer import ShardWriter, pack_encoded, pack_raw
from shards.manifest import EXTENSIONS
from shards.pixels.decode import encode
from shards.pixels.resize import to_image
from tests.support.shard_cases import random_images

KEYS = np.array([*range(40, 50), *range(51, 58)])  # Image 50 was rejected.


def write_tar(folder: Path, encoding: str, images: np.ndarray, labels: np.ndarray | None):
    """Write a tar in three steps; return its description and the stored bytes of each image."""
    stored = [image.tobytes() for image in images]
    if encoding != "raw":
        stored = [encode(to_image(image), encoding) for image in images]
    writer = ShardWriter(folder / "x-train-00000.tar")
    for part in (slice(0, 5), slice(5, 6), slice(6, 17)):
        keys, part_labels = KEYS[part], None if labels is None else labels[part]
        if encoding == "raw":
            pixels = images[part].reshape(len(keys), -1)
            fill = partial(np.copyto, src=pixels)
            writer.add(pack_raw(keys, "bin", pixels.shape[1], fill, part_labels))
        else:
            writer.add(pack_encoded(keys, EXTENSIONS[encoding], stored[part], part_labels))
    return writer.finish(), stored


@pytest.mark.parametrize("size_px", [6, 32])  # 108 bytes, and a whole number of blocks.
@pytest.mark.parametrize("encoding", ["raw", "png", "jpg"])
def test_tarfile_webdataset_and_dali_read_the_same(
    tmp_path: Path, encoding: str, size_px: int
) -> None:
    extension = {"raw": "bin"}.get(encoding, encoding)
    images, labels = random_images(17, size_px), np.arange(17) * 7 % 12
    shard, stored = write_tar(tmp_path, encoding, images, labels)
    path = tmp_path / shard.file
    assert shard.samples == 17
    assert shard.bytes == path.stat().st_size
    assert path.read_bytes()[-1024:] == bytes(1024), "a tar ends with two empty blocks"

    with tarfile.open(path) as tar:
        members = tar.getmembers()
        names = [f"{key:09d}.{e}" for key in KEYS for e in (extension, "cls")]
        assert [m.name for m in members] == names
        for member in members:
            facts = member.mode, member.mtime, member.uid, member.gid, member.uname, member.gname
            assert facts == (0o644, 0, 0, 0, "", "")
            assert member.pax_headers == {}
        assert [tar.extractfile(m).read() for m in members[::2]] == stored
        assert [int(tar.extractfile(m).read()) for m in members[1::2]] == labels.tolist()

    read = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in read] == [f"{key:09d}" for key in KEYS]
    assert [sample[extension] for sample in read] == stored
    assert [int(sample["cls"]) for sample in read] == labels.tolist()

    @pipeline_def(batch_size=17, num_threads=1, device_id=None)
    def pipeline():
        return tuple(
            fn.readers.webdataset(
                paths=[str(path)],
                index_paths=[str(path.with_suffix(".idx"))],
                ext=[extension, "cls"],
                missing_component_behavior="error",
                name="reader",
            )
        )

    pipe = pipeline()
    pixels, texts = pipe.run()
    assert pipe.reader_meta("reader")["epoch_size"] == 17
    assert [bytes(pixels.at(i)) for i in range(17)] == stored
    assert [int(bytes(texts.at(i))) for i in range(17)] == labels.tolist()


def test_unlabelled_members(tmp_path: Path) -> None:
    shard, _ = write_tar(tmp_path, "raw", random_images(17), None)
    with tarfile.open(tmp_path / shard.file) as tar:
        assert tar.getnames() == [f"{key:09d}.bin" for key in KEYS]


def test_a_disk_that_takes_a_part_is_given_the_rest(tmp_path: Path, monkeypatch) -> None:
    class Slow:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            return self.file.write(data[:1000])

        def __getattr__(self, name):
            return getattr(self.file, name)

    images = random_images(17, 32)
    (whole := tmp_path / "whole").mkdir()
    write_tar(whole, "raw", images, None)
    monkeypatch.setattr(
        "shards.format.writer.open", lambda *a, **k: Slow(open(*a, **k)), raising=False
    )
    (slow := tmp_path / "slow").mkdir()
    write_tar(slow, "raw", images, None)
    name = "x-train-00000.tar"
    assert (slow / name).read_bytes() == (whole / name).read_bytes()


def test_any_name_comes_back() -> None:
    names = ["a/b.jpg", "line\nbreak.png", "\u202ertl.png", os.fsdecode(b"\xff.jpg"), " ", "é"]
    rejects = [{"name": name, "reason": "a\nb"} for name in names]
    for values in (names, rejects):
        lines = json_lines(values).decode("ascii").split("\n")
        assert [json.loads(line) for line in lines[:-1]] == values
        assert lines[-1] == ""
