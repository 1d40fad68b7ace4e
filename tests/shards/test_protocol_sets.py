"""Named protocols: the content of each set, sets that exist already, and sets without files."""

import dataclasses
import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from shards import sets
from shards.build import build
from shards.errors import UserError
from shards.manifest_file import read_manifest
from shards.protocols import PROTOCOLS
from shards.reader import ShardSet
from shards.sets import SetsRequest, build_sets
from shards.sources.idx import FASHION_CLASSES
from shards.sources.registry import FORMATS
from tests.support import source_cases as cases
from tests.support.commands import run_command
from tests.support.paths import SAMPLE
from tests.support.shard_cases import assert_user_error, contents

OOD = {"t-shirt": 0, "trouser": 1, "pullover": 2, "dress": 3, "coat": 4, "shirt": 6, "bag": 8}


def footwear(out: Path, src: Path = SAMPLE, **fields: object) -> SetsRequest:
    return SetsRequest("fashion-footwear", src, out, **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sets")
    assert [outcome.state for outcome in build_sets(footwear(out))] == ["built"] * 9
    return out


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    """A copy of the built sets, which a test may change."""
    return Path(shutil.copytree(built, tmp_path / "out"))


def everything(out: Path) -> dict[str, dict[str, bytes]]:
    return {path.name: contents(path) for path in out.iterdir()}


def sample_images(stem: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the images of the sample, uint8 [N,28,28], and its labels, without product code."""
    images = gzip.decompress((SAMPLE / f"{stem}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((SAMPLE / f"{stem}-labels-idx1-ubyte.gz").read_bytes())[8:]
    return np.frombuffer(images, np.uint8).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8)


@pytest.mark.slow
def test_fashion_footwear(built: Path) -> None:
    assert {path.name for path in built.iterdir()} == {"in-dist-train", "in-dist-test", *OOD}
    expected = {"in-dist-train": ("train", (5, 7, 9)), "in-dist-test": ("test", (5, 7, 9))}
    expected |= {name: ("test", (label,)) for name, label in OOD.items()}
    for name, (split, labels) in expected.items():
        all_images, all_labels = sample_images({"train": "train", "test": "t10k"}[split])
        images = [image.tobytes() for image in all_images[np.isin(all_labels, labels)]]
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
    results = build_sets(footwear(out))
    assert [result.wanted.name for result in results if result.state == "built"] == ["coat"]
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
        ("encoding", {"encoding": "png"}),
        ("classes", {"classes": tuple("abcdefghij")}),
        ("shard_samples", {"shard_samples": 100}),
    ],
)
def test_a_set_of_another_request_is_refused(out: Path, field: str, changes) -> None:
    shutil.rmtree(out / "coat")
    shutil.rmtree(out / "t-shirt")
    (how,) = (how for one, how in sets.requests(footwear(out)) if one.name == "coat")
    build(dataclasses.replace(how, **changes))
    before = everything(out)
    with pytest.raises(UserError, match=f"coat: exists with another {field} "):
        build_sets(footwear(out))
    assert everything(out) == before, "t-shirt was built, or coat was changed"


def test_other_source_files_and_damage_are_refused(out: Path, tmp_path: Path) -> None:
    src = Path(shutil.copytree(SAMPLE, tmp_path / "src"))
    images = src / "t10k-images-idx3-ubyte.gz"
    images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes()), 1))
    with pytest.raises(UserError, match="in-dist-test: exists with another sources"):
        build_sets(footwear(out, src))
    tar = out / "bag" / "bag-test-00000.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(UserError, match="bag-test-00000.tar"):
        build_sets(footwear(out))


def test_a_resized_set_is_kept(tmp_path: Path, monkeypatch) -> None:
    smaller = dataclasses.replace(PROTOCOLS["fashion-footwear"], size_px=20)
    monkeypatch.setitem(PROTOCOLS, "fashion-footwear", smaller)
    request = footwear(tmp_path / "out", only=("coat",))
    for state in ("built", "kept"):
        (outcome,) = build_sets(request)
        assert outcome.state == state and outcome.manifest.sizes_sha256


def test_a_set_is_kept_though_what_lies_beside_its_images_changes(
    tmp_path: Path, monkeypatch
) -> None:
    """The same holds for a set that was built before entries were counted."""
    files = {
        f"LSUN_resize/{i}.png": cases.encoded(np.random.default_rng(i), "PNG") for i in range(2)
    }
    src = cases.put(tmp_path / "src", "", files, packed=False)
    (src / "LSUN_resize" / "link.png").symlink_to("0.png")
    known = dataclasses.replace(FORMATS["lsun-resize"], counts={"test": 2})
    monkeypatch.setitem(FORMATS, "lsun-resize", known)
    request = SetsRequest("csi20", src, tmp_path / "out", only=("lsun-resize",))
    (outcome,) = build_sets(request)
    assert outcome.manifest.passed_over == {"link (not followed)": 1}
    (src / "LSUN_resize" / "link.png").unlink()
    (outcome,) = build_sets(request)
    assert outcome.state == "kept"


def test_only_some_sets(tmp_path: Path) -> None:
    build_sets(footwear(tmp_path / "out", only=("coat", "bag")))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"coat", "bag"}
    with pytest.raises(UserError, match="only: no set 'cot' in fashion-footwear, it has in-dist"):
        build_sets(footwear(tmp_path / "out", only=("cot",)))


def test_a_set_that_fails_does_not_stop_the_others(tmp_path: Path, capsys) -> None:
    src = Path(shutil.copytree(SAMPLE, tmp_path / "src"))
    labels = src / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-20])
    arguments = ["--protocol", "fashion-footwear", "--src", str(src), "--out", str(tmp_path / "o")]
    with pytest.raises(UserError, match="^in-dist-test, t-shirt: .*t10k-labels[^;]*$"):
        sets.main([*arguments, "--only", "in-dist-train", "in-dist-test", "t-shirt"])
    rows = {row[0]: row[-1] for row in rows_of(capsys.readouterr().out)}
    assert rows == {"in-dist-train": "built", "in-dist-test": "failed", "t-shirt": "failed"}
    assert os.listdir(tmp_path / "o") == ["in-dist-train"]


def test_a_cause_is_told_once_for_all_sets_that_it_is_of(tmp_path: Path, capsys) -> None:
    src = tmp_path / "fashion-mnist"
    cases.write_idx(src)
    arguments = ["--protocol", "fashion-one-class", "--src", str(src), "--out", str(tmp_path / "o")]
    with pytest.raises(UserError, match="^20 of 20 sets failed, for 2 causes$"):
        sets.main([*arguments, "--no-count"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and max(map(len, lines)) < 500
    for line, split, stem in zip(lines, ("train", "test"), ("train", "t10k"), strict=True):
        names = [f"{name}-{split}" for name in FASHION_CLASSES[:5]]
        start = f"failed {', '.join(names)} and 5 more: {src}/{stem}-images-idx3-ubyte.gz: md5 "
        assert line.startswith(start)


def test_what_is_missing_and_what_is_noted_is_told_once(tmp_path: Path, capsys) -> None:
    (tmp_path / "src").mkdir()
    cases.write_images(tmp_path / "src", "LSUN_fix")
    arguments = ["--protocol", "csi20", "--src", str(tmp_path / "src"), "--no-count"]
    sets.main([*arguments, "--out", str(tmp_path / "out")])
    told = [line for line in capsys.readouterr().out.splitlines() if " on " in line or ": " in line]
    assert len({line.partition(": ")[2] for line in told}) == len(told)
    (missing,) = (line for line in told if "cifar-10-python.tar.gz" in line)
    assert missing.startswith("missing cifar10-train, cifar10-test: cifar-10-python.tar.gz or ")
    (note,) = (line for line in told if "gives it away" in line)
    assert note.startswith("note on lsun-resize, imagenet-resize: ")


def test_a_set_is_kept_when_its_source_is_gone(out: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert {outcome.state for outcome in build_sets(footwear(out, tmp_path / "empty"))} == {"kept"}
    shutil.rmtree(out / "coat")
    outcomes = build_sets(footwear(out, tmp_path / "empty", only=("coat", "bag")))
    states = {outcome.wanted.name: outcome.state for outcome in outcomes}
    assert states == {"coat": "missing", "bag": "kept"}


def test_sources_may_be_links(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for i, path in enumerate(SAMPLE.glob("*.gz")):
        blob = Path(shutil.copy(path, tmp_path / f"blob{i}"))
        (tmp_path / "src" / path.name).symlink_to(blob)
    request = footwear(tmp_path / "out", tmp_path / "src", only=("coat",))
    assert [outcome.state for outcome in build_sets(request)] == ["built"]
    assert [outcome.state for outcome in build_sets(request)] == ["kept"]
    sources = read_manifest(tmp_path / "out" / "coat").sources
    assert sources[0].file == "t10k-images-idx3-ubyte.gz"


def test_published_sets_are_held_to_everything(tmp_path: Path) -> None:
    (tmp_path / "fashion-mnist").mkdir()
    for path in SAMPLE.glob("*.gz"):
        shutil.copy(path, tmp_path / "fashion-mnist")
    request = SetsRequest("fashion-one-class", tmp_path, tmp_path / "out", ("coat-test",))
    ((_, how),) = sets.requests(request)
    assert (how.max_rejects_pct, how.md5, how.count) == (0, True, True)
    (outcome,) = build_sets(request)
    assert "3000 images in split test, published are 10000" in outcome.error
    (outcome,) = build_sets(dataclasses.replace(request, count=False))
    assert "md5 of t10k-images-idx3-ubyte in it is" in outcome.error
    (outcome,) = build_sets(dataclasses.replace(request, count=False, md5=False))
    assert (outcome.manifest.samples, outcome.manifest.checks) == (300, ())


def rows_of(text: str) -> list[list[str]]:
    rows = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in row] for row in rows]


@pytest.mark.slow
def test_command_line(out: Path, tmp_path: Path) -> None:
    arguments = ["--protocol", "fashion-footwear", "--src", SAMPLE]
    shutil.rmtree(out / "coat")
    result = run_command("-m", "shards.sets", *arguments, "--out", out, env={"COLUMNS": "200"})
    assert (result.returncode, result.stderr) == (0, "")
    rows = rows_of(result.stdout)
    assert rows[0] == ["in-dist-train", "in-dist", "idx train", "6144", "28x28x1", "", "kept"]
    assert ["coat", "ood", "idx test", "300", "28x28x1", "", "built"] in rows
    assert len(rows) == 9
    for src, words in ((tmp_path / "no", "no such folder"), (tmp_path, "none of the files")):
        result = run_command(
            "-m", "shards.sets", *arguments[:2], "--src", src, "--out", tmp_path / "new"
        )
        assert_user_error(result, words)


@pytest.mark.slow
def test_without_a_protocol_they_are_listed() -> None:
    result = run_command("-m", "shards.sets", env={"COLUMNS": "200"})
    assert result.returncode == 0
    assert {row[0] for row in rows_of(result.stdout)} >= set(PROTOCOLS)


def test_unknown_protocol(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="protocol is 'x', there are: icann22, "):
        build_sets(SetsRequest("x", SAMPLE, tmp_path))


def test_protocols_are_of_known_formats_with_their_published_counts() -> None:
    for protocol in PROTOCOLS.values():
        names = [one.name for one in protocol.sets]
        assert len(set(names)) == len(names)
        for one in protocol.sets:
            known = FORMATS[one.source]
            assert one.split in known.splits or not known.splits, one
            if not one.labels and known.counts:
                assert known.counts[one.split] == one.samples, one
            assert not known.counts or known.get_it, one


def test_the_papers_tables_are_all_there() -> None:
    counts = {one.name: one.samples for one in PROTOCOLS["icann22"].sets}
    assert counts == {
        "cifar10-train": 50_000,
        "cifar10-test": 10_000,
        "cifar100-train": 50_000,
        "cifar100-test": 10_000,
        "svhn": 26_032,
        "imagenet30": 3_000,
        "tiny-imagenet": 10_000,
        "lsun": 10_000,
        "stl10": 8_000,
        "places365": 36_500,
        "texture": 5_640,
        "imagenet": 1_281_167,
        "dti": 300_000,
    }
