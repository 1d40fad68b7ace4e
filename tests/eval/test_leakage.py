"""Images that the sets of a scoring share with each other or with the training set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from eval.features.in_memory import ImagesInMemory
from eval.sets.leakage import check_overlap, shared_rows
from eval.sets.opening import open_sets
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.similarity.shared import Shared, shared_images
from tests.support.image_sets import build_npy_set, smooth_images


def random_images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def sets(**changed: np.ndarray) -> dict[str, ImagesInMemory]:
    images = {"bank": random_images(9, 0), "test": random_images(5, 1)}
    images |= {"a": random_images(7, 2), "b": random_images(6, 3)}
    return {name: ImagesInMemory(array) for name, array in {**images, **changed}.items()}


def test_sets_that_share_nothing_pass(monkeypatch):
    monkeypatch.setattr("shards.similarity.shared.CHUNK", 2)
    assert shared_images(sets()) == []


def test_what_is_shared_is_named(monkeypatch):
    monkeypatch.setattr("shards.similarity.shared.CHUNK", 2)
    test, a = random_images(5, 1), random_images(7, 2)
    test[3] = random_images(9, 0)[8]
    a[[0, 6]] = random_images(9, 0)[[1, 1]]
    a[2] = test[0]
    found = shared_images(sets(test=test, a=a))
    assert [(shared.one, shared.other, shared.ids.tolist()) for shared in found] == [
        ("bank", "test", [3]),
        ("bank", "a", [0, 6]),
        ("test", "a", [2]),
    ]


def test_one_level_is_a_difference_and_so_is_the_shape():
    images = random_images(9, 0)
    other = images.copy()
    other[:, 0, 0, 0] ^= 1
    assert shared_images(sets(a=other)) == []
    assert shared_images(sets(a=images.reshape(9, 2, 8, 3))) == []
    assert len(shared_images(sets(a=images))[0].ids) == 9


def test_ood_sets_may_share(monkeypatch):
    assert shared_images(sets(b=random_images(7, 2))) == []


def test_rows_that_are_equal_number_by_number():
    rng = np.random.default_rng(4)
    features = {
        name: rng.integers(0, 3, (count, 3)).astype(np.float32)
        for name, count in {"bank": 6, "test": 7, "a": 8, "b": 9}.items()
    }
    expected = []
    for one, other in (
        ("bank", "test"),
        ("bank", "a"),
        ("bank", "b"),
        ("test", "a"),
        ("test", "b"),
    ):
        equal = (features[other][:, None] == features[one][None]).all(axis=2).any(axis=1)
        expected.append((one, other, np.flatnonzero(equal).tolist()))
    assert any(ids for _, _, ids in expected) and not all(len(i) == 9 for *_, i in expected)
    assert as_lists(shared_rows(features)) == [pair for pair in expected if pair[2]]


# --------------------------------------------------------------------------- sets of shards

SIZE_PX = 8


def as_lists(found: Sequence[Shared]) -> list[tuple[str, str, list[int]]]:
    return [(shared.one, shared.other, shared.ids.tolist()) for shared in found]


def photos(folder: Path, name: str, seed: int) -> Path:
    return build_npy_set(folder, name, smooth_images(20, SIZE_PX, 3, seed))


def cut(folder: Path, name: str, keep: Sequence[int], source: Path, **options) -> Path:
    """Build a set of the rows `keep` of a source, by a list that excludes the other rows."""
    others = [i for i in range(20) if i not in keep]
    (folder / f"{name}.jsonl").write_text("".join(f'{{"name": "{i}"}}\n' for i in others))
    request = {"source": "npy", "src": source, "split": "train", "size_px": SIZE_PX, **options}
    build(BuildRequest(**request, out=folder / name, exclude=folder / f"{name}.jsonl"))
    return folder / name


def ids_of_rows(folder: Path, rows: Sequence[int]) -> list[int]:
    """Return the ids, in a set, of rows of its source."""
    names = [json.loads(line) for line in (folder / "names.jsonl").read_text().splitlines()]
    return sorted(names.index(str(row)) for row in rows)


def overlap(paths: Sequence[Path], *, allow: bool = False, teacher=None) -> list:
    """Return the shared images of a bank, a test set and OOD sets."""
    with ExitStack() as stack:
        opened = open_sets(*paths[:2], tuple(paths[2:]), stack, allow_overlap=allow)
        return as_lists(check_overlap(opened, teacher, allow_overlap=allow))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sets `bank`, `test`, `ood`, its copy `twin`, and source.npy, a source without a set."""
    folder = tmp_path_factory.mktemp("made")
    for seed, name in enumerate(("bank", "test", "ood")):
        photos(folder, name, seed)
    shutil.copytree(folder / "ood", folder / "twin")
    np.save(folder / "source.npy", smooth_images(20, SIZE_PX, 3, seed=9))
    return folder


@pytest.mark.parametrize("encoding", ["raw", "jpg"])
def test_sets_cut_from_one_source_are_told_apart_image_by_image(made, tmp_path, encoding):
    """In a JPEG set the pixels of shared images differ, but their names are the same."""
    source = made / "source.npy"
    low = cut(tmp_path, "low", range(10), source)
    high = cut(tmp_path, "high", range(10, 20), source, encoding=encoding)
    middle = cut(tmp_path, "middle", range(8, 12), source, encoding=encoding)
    assert overlap([made / "bank", low, high]) == []
    assert overlap([low, high, made / "ood"]) == []
    for sets in ([low, made / "test", middle], [made / "bank", low, middle]):
        with pytest.raises(UserError, match=r"^sets share images: 2 of middle are in in-dist-t"):
            overlap(sets)
    found = overlap([made / "bank", made / "test", low, middle], allow=True)
    assert found == [("low", "middle", ids_of_rows(middle, [8, 9]))]
    with pytest.raises(UserError, match=r"^sets share images: 2 of middle are in low too"):
        overlap([made / "bank", made / "test", low, middle])


def test_names_of_two_sources_say_nothing(made):
    names = [(made / name / "names.jsonl").read_text().split() for name in ("bank", "test", "ood")]
    assert sorted(names[0]) == sorted(names[1]) == sorted(names[2])  # the names are row numbers
    assert overlap([made / name for name in ("bank", "test", "ood")], allow=True) == []


def test_equal_sets_are_refused_or_if_allowed_recorded(made, tmp_path):
    again = tmp_path / "again"  # a set of the same source, in another order
    request = {"source": "npy", "src": made / "test.npy", "split": "train", "size_px": SIZE_PX}
    build(BuildRequest(**request, out=again, seed=5, encoding="jpg"))
    sets = [made / "bank", made / "test", made / "ood"]
    all_ids = list(range(20))
    for more, pair, fault in (
        (made / "twin", ("ood", "twin"), "hold the same shards"),
        (again, ("in-dist-test", "again"), "were built from the same source and labels"),
    ):
        message = f"^{pair[0]} and {pair[1]} {fault}: .*; allow it with --allow-overlap, which is"
        with pytest.raises(UserError, match=message):
            overlap([*sets, more])
        assert overlap([*sets, more], allow=True) == [(*pair, all_ids)]


@pytest.mark.parametrize(
    ("stream", "words"), [("in-dist", "the set"), ("aux", "the auxiliary set")]
)
def test_a_set_that_the_run_was_trained_on(made, stream, words):
    digests = {
        name: json.loads((made / name / "manifest.json").read_text())["~sha256"]
        for name in ("bank", "test", "ood")
    }
    config = SimpleNamespace(in_dist=Path("/data/own"), aux=Path("/data/more"))
    folder = {"in-dist": "/data/own", "aux": "/data/more"}[stream]
    what = f"{words} that the run was trained on"
    sets = [made / "bank", made / "test", made / "ood"]
    for name, scored_as in (("test", "in-dist-test"), ("ood", "ood")):
        manifests = {"in-dist": digests["bank"], stream: digests[name]}
        teacher = SimpleNamespace(manifests=manifests, config=config)
        message = f"^{scored_as}: {made / name} is {what}, {folder}; allow it with --allow-over"
        with pytest.raises(UserError, match=message):
            overlap(sets, teacher=teacher)
        found = overlap(sets, teacher=teacher, allow=True)
        assert found == [(what, scored_as, list(range(20)))]
    as_bank = SimpleNamespace(manifests={stream: digests["bank"]}, config=config)
    assert overlap(sets, teacher=as_bank) == []
