"""Named protocols: what is in each set, and that a set is built once."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from shards import sets
from shards.cli import UserError
from shards.manifest import read_manifest
from shards.reader import ShardSet
from shards.sources.idx import IdxSource
from tests.shard_cases import SAMPLE, assert_user_error, contents, run_module

OOD = {"t-shirt": 0, "trouser": 1, "pullover": 2, "dress": 3, "coat": 4, "shirt": 6, "bag": 8}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sets")
    results = sets.build_sets("fashion-footwear", SAMPLE, out)
    assert [state for _, state in results] == ["built"] * 9
    return out


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    """The built sets, to be changed by a test."""
    return Path(shutil.copytree(built, tmp_path / "out"))


def everything(out: Path) -> dict[str, dict[str, bytes]]:
    return {path.name: contents(path) for path in out.iterdir()}


def test_fashion_footwear(built: Path) -> None:
    assert {path.name for path in built.iterdir()} == {"in-dist-train", "in-dist-test", *OOD}
    expected = {"in-dist-train": ("train", (5, 7, 9)), "in-dist-test": ("test", (5, 7, 9))}
    expected |= {name: ("test", (label,)) for name, label in OOD.items()}
    for name, (split, labels) in expected.items():
        source = IdxSource(SAMPLE, split)
        images = [
            source[i].pixels.tobytes() for i in np.flatnonzero(np.isin(source.labels, labels))
        ]
        with ShardSet.open(built / name) as shards:
            ids = np.arange(len(shards))
            assert sorted(image.tobytes() for image in shards.read(ids)) == sorted(images)
            assert set(shards.labels(ids)) == set(labels)
        manifest = read_manifest(built / name)
        assert (manifest.name, manifest.split, manifest.labels) == (name, split, labels)
        assert (manifest.protocol, manifest.resize) == ("fashion-footwear", "none")
        assert manifest.sample_shape == (28, 28, 1)
    assert [manifest.classes[label] for label in (5, 7, 9)] == ["sandal", "sneaker", "ankle-boot"]


def test_what_is_there_is_kept_and_what_is_missing_is_built(out: Path) -> None:
    before = everything(out)
    shutil.rmtree(out / "coat")
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    results = sets.build_sets("fashion-footwear", SAMPLE, out)
    assert [manifest.name for manifest, state in results if state == "built"] == ["coat"]
    assert everything(out) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("shuffle_seed", {"seed": 1}),
        ("height_px", {"size_px": 27}),
        ("labels", {"labels": (6,)}),
        ("labels", {"labels": (4, 6)}),
        ("protocol", {"protocol": ""}),
        ("channels", {"channels": 3}),
        ("classes", {"classes": ()}),
        ("shard_samples", {"shard_samples": 100}),
    ],
)
def test_a_set_of_another_request_is_refused(out: Path, field: str, changes) -> None:
    shutil.rmtree(out / "coat")
    shutil.rmtree(out / "t-shirt")
    (request,) = (r for r in sets.requests("fashion-footwear", SAMPLE, out) if r.out.name == "coat")
    sets.build(dataclasses.replace(request, **changes))
    before = everything(out)
    with pytest.raises(UserError, match=f"coat: exists with another {field} "):
        sets.build_sets("fashion-footwear", SAMPLE, out)
    assert everything(out) == before, "t-shirt was built, or coat was changed"


def test_other_source_files_and_damage_are_refused(out: Path, tmp_path: Path) -> None:
    import gzip

    src = tmp_path / "src"
    src.mkdir()
    for path in SAMPLE.glob("*.gz"):
        (src / path.name).write_bytes(path.read_bytes())
    images = bytearray(gzip.decompress((src / "t10k-images-idx3-ubyte.gz").read_bytes()))
    images[-1] ^= 1
    (src / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    with pytest.raises(UserError, match="in-dist-test: exists with another sources"):
        sets.build_sets("fashion-footwear", src, out)
    tar = out / "bag" / "bag-test-00000.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(UserError, match="bag-test-00000.tar"):
        sets.build_sets("fashion-footwear", SAMPLE, out)


def test_command_line(out: Path, tmp_path: Path) -> None:
    arguments = ["--protocol", "fashion-footwear", "--src", SAMPLE]
    shutil.rmtree(out / "coat")
    result = run_module("shards.sets", *arguments, "--out", out, env={"COLUMNS": "200"})
    assert (result.returncode, result.stderr) == (0, "")
    rows = [line.split("│")[1:-1] for line in result.stdout.splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in row] for row in rows]
    assert rows[0] == ["in-dist-train", "6144", "28x28x1", "sandal, sneaker, ankle-boot", "kept"]
    assert ["coat", "300", "28x28x1", "coat", "built"] in rows
    assert len(rows) == 9
    result = run_module(
        "shards.sets", "--protocol", "fashion-footwear", "--src", tmp_path / "no", "--out", out
    )
    assert_user_error(result, "no: no such folder")


def test_unknown_protocol(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="protocol is 'x', there are: fashion-footwear"):
        sets.build_sets("x", SAMPLE, tmp_path)
