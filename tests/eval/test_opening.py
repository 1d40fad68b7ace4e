"""The sets of a scoring: their names, and which of them are refused."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from eval.results.collect import grouped
from eval.sets.opening import open_sets
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.sources.registry import FORMATS
from tests.support import source_cases
from tests.support.small_sets import folder_set, npy_request, npy_set


def opened(train: Path, test: Path, *ood: Path):
    with ExitStack() as stack:
        return open_sets(train, test, ood, stack)


def test_sets_are_named_by_folder_in_the_order_given(sets):
    found = opened(sets / "train", sets / "test", sets / "ood-b", sets / "ood-a")
    assert found.scored == ["in-dist-test", "ood-b", "ood-a"]
    assert list(found.counts.values()) == [30, 12, 9, 14]


def test_a_trailing_dot_does_not_hide_the_name(sets, monkeypatch):
    monkeypatch.chdir(sets / "ood-a")
    assert list(opened(sets / "train", sets / "test", Path(".")).ood) == ["ood-a"]


@pytest.mark.parametrize(
    ("train", "test", "ood", "pair"),
    [
        ("train", "train", "ood-a", "in-dist-train and in-dist-test"),
        ("train", "test", "train", "in-dist-train and train"),
        ("train", "test", "test", "in-dist-test and test"),
    ],
)
@pytest.mark.parametrize("how", ["same", "link", "copy"])
def test_a_set_never_meets_itself(sets, tmp_path, train, test, ood, pair, how):
    twin = ood if test != train else test  # the second of the pair
    if how == "link":
        (tmp_path / twin).symlink_to(sets / twin)
    if how == "copy":
        shutil.copytree(sets / twin, tmp_path / twin)
    root = sets if how == "same" else tmp_path
    paths = [sets / train, sets / test, sets / ood]
    paths[1 if test == train else 2] = root / twin
    fault = "hold the same shards" if how == "copy" else "are the same folder"
    with pytest.raises(UserError, match=f"^{pair} {fault}"):
        opened(*paths)


def test_the_bank_itself_is_called_so_under_any_name(tmp_path):
    bank = npy_set(tmp_path / "in-dist-train", 6, seed=40)
    with pytest.raises(UserError, match="^in-dist-train and in-dist-train are the same folder"):
        opened(bank, npy_set(tmp_path / "test", 5, seed=41), bank)


def test_the_same_images_in_another_order_are_found(sets, tmp_path):
    npy_set(tmp_path / "again", 12, seed=1, name="other")  # equal to `test` but for the name
    with pytest.raises(UserError, match="^in-dist-test and again hold the same shards"):
        opened(sets / "train", sets / "test", tmp_path / "again")
    request = npy_request(tmp_path / "again-source.npy", tmp_path / "b")
    build(BuildRequest(**request, seed=5))
    with pytest.raises(UserError, match="^in-dist-test and b were built from the same source"):
        opened(sets / "train", sets / "test", tmp_path / "b")


def test_classes_of_one_source_may_stand_against_each_other(sets, tmp_path):
    boats = folder_set(tmp_path / "boats", 8, seed=4, labels=(0,))
    trees = folder_set(tmp_path / "trees", 8, seed=4, labels=(1,))
    both = folder_set(tmp_path / "both", 8, seed=4)
    assert len(opened(sets / "train", boats, trees).ood["trees"]) == 4
    with pytest.raises(UserError, match="^in-dist-test and both were built from the same source"):
        opened(sets / "train", boats, both)


def test_splits_that_overlap_are_found(sets, tmp_path, monkeypatch):
    source_cases.write_dtd(tmp_path)
    source_cases.write_cifar10(tmp_path)
    built = {}
    for source, split in (
        ("dtd", "all"),
        ("dtd", "test1"),
        ("cifar10", "train"),
        ("cifar10", "test"),
    ):
        shared = npy_request(tmp_path, tmp_path / f"{source}-{split}")
        request = {**shared, "source": source, "split": split}
        build(BuildRequest(**request, count=False, md5=False))
        built[source, split] = request["out"]
    fault = "were built from the same source"
    with pytest.raises(UserError, match=f"^in-dist-test and dtd-test1 {fault}"):
        opened(sets / "train", built["dtd", "all"], built["dtd", "test1"])
    of_cifar = sets / "train", built["cifar10", "train"], built["cifar10", "test"]
    opened(*of_cifar)
    monkeypatch.delitem(FORMATS, "cifar10")  # as where a later version built them
    with pytest.raises(UserError, match=f"^in-dist-test and cifar10-test {fault}"):
        opened(*of_cifar)


def test_two_ood_sets_with_one_name_are_refused(sets, tmp_path):
    other = npy_set(tmp_path / "ood-a", 5, seed=9)
    with pytest.raises(UserError, match="are both named 'ood-a'"):
        opened(sets / "train", sets / "test", sets / "ood-a", other)


NAMES_OF_COLUMNS = ["all", "near", "far", "mean", "in-dist-test", "in-dist-train"]


def test_a_set_that_is_called_as_a_column_gets_another_name(sets, tmp_path):
    named = [npy_set(tmp_path / name, 5, seed) for seed, name in enumerate(NAMES_OF_COLUMNS, 20)]
    found = opened(sets / "train", sets / "test", *named)
    expected = {f"{path.name}-set": path for path in named}
    assert {name: shards.directory for name, shards in found.ood.items()} == expected
    assert grouped(("far", "all-set"), found)["near"] == ["all-set", "far-set"]
    other = npy_set(tmp_path / "far-set", 5, seed=9)
    with pytest.raises(UserError, match=f"{named[2]} and {other} are both named 'far-set'"):
        opened(sets / "train", sets / "test", *named, other)


def test_another_image_shape_is_refused(sets, tmp_path):
    gray = npy_set(tmp_path / "gray", 5, seed=9, channels=1)
    with pytest.raises(
        UserError, match="^gray: images are 8x8x1, images of in-dist-train are 8x8x3"
    ):
        opened(sets / "train", sets / "test", sets / "ood-a", gray)
