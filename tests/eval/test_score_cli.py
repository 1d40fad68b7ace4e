"""What the scorer accepts, refuses and leaves behind, on real shard sets."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dali_pipes.batch import RGB_MEAN, RGB_STD, ViewSpec
from eval import score_sets
from eval.metrics import auroc
from eval.results.collect import grouped
from eval.results.output_folder import check_replaceable, complete_folder
from eval.score import main
from eval.sets.opening import open_sets
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.reader import ShardSet
from shards.sources.registry import FORMATS
from tests.support import source_cases
from tests.support.commands import run_anew, run_command
from tests.support.paths import ROOT
from tests.support.world_cases import OneOfTwo
from train.checkpoint import Snapshot
from train.config import HeadConfig, ModelConfig, RunConfig
from train.networks.model import untrained_backbone
from train.state import TrainState
from train.teacher import load_teacher

SIDE_PX = 8
CPU = torch.device("cpu")


def npy_request(source: Path, out: Path) -> dict[str, Any]:
    return {"source": "npy", "src": source, "split": "test", "size_px": SIDE_PX, "out": out}


def npy_set(out: Path, count: int, seed: int, channels: int = 3, **options) -> Path:
    """A set of random images; `seed` decides the images and nothing else."""
    rng = np.random.default_rng(seed)
    source = out.parent / f"{out.name}-source.npy"
    shape = (count, SIDE_PX, SIDE_PX, channels)
    np.save(source, rng.integers(1, 256, shape, dtype=np.uint8))
    build(BuildRequest(**npy_request(source, out), shard_samples=10, **options))
    return out


def folder_set(out: Path, count: int, seed: int, labels: tuple[int, ...] = ()) -> Path:
    """A labelled set of image files with names, classes `boat` and `tree`."""
    rng = np.random.default_rng(seed)
    source = out.parent / f"{out.name}-source"
    for i in range(count):
        path = source / ("boat", "tree")[i % 2] / f"image, {i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(1, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)).save(path)
    request = {**npy_request(source, out), "source": "class-folders"}
    build(BuildRequest(**request, labels=labels, protocol="p"))
    return out


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Folders: train (30 images), test (12), ood-a (14), ood-b (9, labelled, named)."""
    root = tmp_path_factory.mktemp("sets")
    npy_set(root / "train", 30, seed=0)
    npy_set(root / "test", 12, seed=1)
    npy_set(root / "ood-a", 14, seed=20)
    folder_set(root / "ood-b", 9, seed=3)
    return root


def write_run(directory: Path, train: Path, change: Callable[[torch.nn.Module], None]) -> Path:
    """A run of three steps, so to say; `change` is done to its teacher."""
    config = RunConfig(
        in_dist=Path("train"),
        out=directory,
        negatives="rot-in",
        global_batch=10,
        views=ViewSpec(global_px=SIDE_PX, local_px=4),  # images keep their size: an easy oracle
        model=ModelConfig(patch_px=4, width=12, depth=1, heads=2),
        head=HeadConfig(prototypes=8, hidden=8, bottleneck=4),
    )
    state = TrainState.start(config, CPU)
    state.step = 3
    change(state.teacher)
    with ShardSet.open(train) as shards:
        manifests = {"in-dist": shards.manifest.sha256}
    Snapshot.of(state, {"manifests": manifests}, config).write(config)
    return directory


@pytest.fixture(scope="module")
def run(sets, tmp_path_factory):
    """Its teacher is no longer what it was at the start."""
    generator = torch.Generator().manual_seed(1)

    def change(teacher):
        for parameter in teacher.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))

    return write_run(tmp_path_factory.mktemp("runs") / "run", sets / "train", change)


def opened(train: Path, test: Path, *ood: Path):
    with ExitStack() as stack:
        return open_sets(train, test, ood, stack)


# ------------------------------------------------------------------------------- sets


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


# ------------------------------------------------------------------------------- output folder


def write_scoring(out: Path, text: str) -> None:
    with complete_folder(out) as folder:
        (folder / "results.json").write_text(text)
        (folder / "scores").mkdir()
        (folder / "scores" / "a.csv").write_text(text)


def test_an_earlier_scoring_is_replaced_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    write_scoring(out, "first")
    (out / "table.md").write_text("first")
    write_scoring(out, "second")
    assert (out / "results.json").read_text() == "second"
    assert sorted(p.name for p in out.iterdir()) == ["results.json", "scores"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_a_scoring_that_fails_leaves_the_earlier_one(tmp_path):
    out = tmp_path / "out"
    write_scoring(out, "first")
    with pytest.raises(RuntimeError), complete_folder(out) as folder:
        (folder / "results.json").write_text("second")
        assert (out / "results.json").read_text() == "first"
        raise RuntimeError
    assert (out / "results.json").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_replacement_that_fails_puts_the_earlier_one_back(tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_scoring(out, "first")
    rename = Path.rename

    def failing_rename(path, target):
        if ".partial-" in path.name and ".not-published-" not in str(target):
            raise OSError("no space")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing_rename)
    kept = tmp_path / f"out.not-published-{os.getpid()}"
    with pytest.raises(UserError, match=f"no space; what was made is in {kept}$"):
        write_scoring(out, "second")
    assert (out / "results.json").read_text() == "first"
    # What took hours is not thrown away.
    assert (kept / "results.json").read_text() == "second"
    assert {p.name for p in tmp_path.iterdir()} == {"out", kept.name}


def test_an_empty_folder_may_be_the_output(tmp_path):
    (tmp_path / "out").mkdir()
    write_scoring(tmp_path / "out", "first")
    assert (tmp_path / "out" / "results.json").read_text() == "first"


@pytest.mark.parametrize("held", [["notes.txt"], ["results.json", "notes.txt"], ["table.md"]])
def test_what_no_scoring_wrote_is_never_replaced(tmp_path, held):
    out = tmp_path / "out"
    out.mkdir()
    for name in held:
        (out / name).write_text("mine")
    with pytest.raises(UserError, match=f"^--out {out}: .*not replaced"):
        check_replaceable(out)
    kept = tmp_path / f"out.not-published-{os.getpid()}"
    with pytest.raises(UserError, match=f"not replaced; what was made is in {kept}$"):
        write_scoring(out, "new")
    assert sorted(p.name for p in out.iterdir()) == sorted(held)
    assert (kept / "results.json").read_text() == "new"


def test_a_file_is_no_output_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="is not a folder"):
        write_scoring(tmp_path / "out", "new")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "deep" / "out", Path("/proc/out")):
        with pytest.raises(UserError, match=f"^--out {out}: {out.parents[-2]}.* cannot be written"):
            main(["--features", "no-such.npz", "--out", str(out)])
    check_replaceable(tmp_path / "new" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ------------------------------------------------------------------------------- command


def command(run, sets, out, *more, ood=("ood-a", "ood-b")):
    paths = [str(sets / name) for name in ood]
    sources = ["--in-dist-train", str(sets / "train"), "--in-dist-test", str(sets / "test")]
    options = ["--k", "1", "5", "--device", "cpu"]
    return [str(run), *sources, "--ood", *paths, "--out", str(out), *options, *more]


def results_of(out):
    return json.loads((out / "results.json").read_text())


def eq6_aurocs(results, method="teacher"):
    """Column -> AUROC."""
    found = results["methods"][method]["scores"]["eq6"]
    return {column: metrics["auroc"]["value"] for column, metrics in found.items()}


def scores_by_definition(sets, features_of):
    """Eq. 6, log form, of the three scored sets: float64, by numpy, the whole matrix at once."""

    def unit(name):
        with ShardSet.open(sets / name) as shards:
            features = features_of(shards.read(np.arange(len(shards)))).astype(np.float64)
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    bank = unit("train")
    named = {"in-dist-test": "test", "ood-a": "ood-a", "ood-b": "ood-b"}
    return {
        name: -np.log(np.exp(unit(folder) @ bank.T / 0.04).mean(axis=1))
        for name, folder in named.items()
    }


@torch.no_grad()
def backbone_features(backbone, images):
    views = (images.astype(np.float32) - np.float32(RGB_MEAN)) / np.float32(RGB_STD)
    return backbone(torch.from_numpy(views).permute(0, 3, 1, 2)).numpy()


def aurocs(scores):
    inside, a, b = scores.values()
    return [auroc(inside, ood) for ood in (a, b, np.concatenate([a, b]))]


@pytest.fixture(scope="module")
def scored(run, sets, tmp_path_factory):
    """Output folder of a scoring with baselines."""
    out = tmp_path_factory.mktemp("scored") / "out"
    main(command(run, sets, out, "--baselines", "--batch", "5"))
    return out


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_scores_are_those_of_the_definition(run, sets, scored):
    teacher = load_teacher(run, CPU).backbone
    expected = scores_by_definition(sets, lambda images: backbone_features(teacher, images))
    assert sorted(p.stem for p in (scored / "scores").iterdir()) == sorted(expected)
    for name, values in expected.items():
        rows = read_csv(scored / "scores" / f"{name}.csv")
        assert [row["id"] for row in rows] == [str(i) for i in range(len(values))]
        found = np.array([float(row["score"]) for row in rows])
        np.testing.assert_allclose(found, values, rtol=0, atol=2e-4)


def test_aurocs_are_those_of_the_definition(run, sets, scored):
    loaded = load_teacher(run, CPU)
    untrained = untrained_backbone(loaded.config, CPU)
    results = results_of(scored)
    features_of = {
        "pixel": lambda images: images.reshape(len(images), -1),
        "untrained": lambda images: backbone_features(untrained, images),
        "teacher": lambda images: backbone_features(loaded.backbone, images),
    }
    assert list(results["methods"]) == list(features_of)
    seen = set()
    for method, features in features_of.items():
        scores = scores_by_definition(sets, features)
        gaps = np.diff(np.sort(np.concatenate(list(scores.values()))))
        assert gaps.min() > 5e-6  # so that rounding cannot change the order
        expected = aurocs(scores)
        found = eq6_aurocs(results, method)
        assert [found[name] for name in ("ood-a", "ood-b", "all")] == pytest.approx(expected)
        assert found["mean"] == pytest.approx((expected[0] + expected[1]) / 2)
        samples = results["methods"][method]["scores"]["eq6"]
        assert [samples[name]["samples"] for name in ("ood-a", "ood-b", "all")] == [14, 9, 23]
        seen.add(tuple(expected))
    assert len(seen) == 3  # no method's numbers can stand for another's


def test_results_say_what_was_scored(run, sets, scored):
    results = results_of(scored)
    assert results["higher_is"] == "ood"
    assert results["tau"] == 0.04
    assert results["bank_size"] == 30
    assert results["counts"] == {
        "in-dist-train": 30,
        "in-dist-test": 12,
        "ood-a": 14,
        "ood-b": 9,
    }
    assert results["protocol"] == "mixed: custom, p"
    assert results["checkpoint"] == {"step": 3, "sha256": load_teacher(run, CPU).sha256}
    with ShardSet.open(sets / "ood-b") as shards:
        assert results["manifests"]["ood-b"]["sha256"] == shards.manifest.sha256
    assert results["versions"]["torch"] == torch.__version__
    assert results["command"] == command(run, sets, scored, "--baselines", "--batch", "5")
    assert str(sets) not in json.dumps({**results, "command": []})


def test_csv_has_name_and_class_where_it_is_known(sets, scored):
    rows = read_csv(scored / "scores" / "ood-a.csv")
    assert rows[0].keys() == {"id", "score", "name"}
    assert sorted(int(row["name"]) for row in rows) == list(range(14)), "not the rows of the array"
    rows = read_csv(scored / "scores" / "ood-b.csv")
    with ShardSet.open(sets / "ood-b") as shards:
        names = shards.names()
    assert [row["name"] for row in rows] == names
    assert [row["class"] for row in rows] == [name.split("/")[0] for name in names]


def test_table_and_histogram_are_there(scored, capsys):
    results = results_of(scored)
    table = (scored / "table.md").read_text()
    for method in ("pixel cosine", "untrained network", "trained teacher"):
        assert f"| {method} |" in table
    assert f"{100 * eq6_aurocs(results)['all']:.2f}" in table
    with Image.open(scored / "histogram.png") as image:
        assert min(image.size) > 400
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_one_ood_set_without_baselines(run, sets, scored, tmp_path, capsys):
    # Features of its own, all in one batch: those of `scored` are made five at a time.
    main(command(run, sets, tmp_path / "out", "--cache", str(tmp_path / "c"), ood=("ood-b",)))
    results = results_of(tmp_path / "out")
    with_baselines = results_of(scored)
    assert list(results["methods"]) == ["teacher"]
    alone = eq6_aurocs(results)
    assert alone["ood-b"] == eq6_aurocs(with_baselines)["ood-b"]
    assert alone["all"] == alone["mean"] == alone["ood-b"]
    assert "trained teacher" in capsys.readouterr().out


def test_two_ranks_find_what_one_does(run, sets, scored, tmp_path):
    """And each image is scored once: the rows of the CSV are those of one rank."""
    arguments = command(run, sets, tmp_path / "out", "--baselines", "--cache", str(tmp_path / "c"))
    result = run_command(ROOT / "eval" / "score.py", *arguments, ranks=2)
    assert result.returncode == 0, result.stderr
    one, two = results_of(scored), results_of(tmp_path / "out")
    assert two["settings"]["ranks"] == 2
    assert one["methods"] == two["methods"]  # every metric of every score
    for path in (scored / "scores").iterdir():
        ours, theirs = read_csv(path), read_csv(tmp_path / "out" / "scores" / path.name)
        assert [row["id"] for row in ours] == [row["id"] for row in theirs]
        np.testing.assert_allclose(
            [float(row["score"]) for row in ours],
            [float(row["score"]) for row in theirs],
            rtol=0,
            atol=1e-5,
        )


class ComparedEqual(Exception):
    """All is as the earlier rank had it."""


@pytest.mark.parametrize("differs", [None, "checkpoint", "images", "features"])
def test_ranks_that_do_not_score_the_same_are_refused(sets, tmp_path, monkeypatch, differs):
    def work(*_):
        raise ComparedEqual

    def arrange(changed: str | None) -> None:
        def change(teacher):
            teacher.backbone.norm.bias.fill_(float(changed == "checkpoint"))

        for name in ("run", "ood"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        write_run(tmp_path / "run", sets / "train", change)
        npy_set(tmp_path / "ood", 5, seed=7 if changed == "images" else 6)
        counts = {"in-dist-train": 30, "in-dist-test": 12, "ood": 5}
        of_sets = {name: np.ones((count, 2)) for name, count in counts.items()}
        of_sets["ood"][4, 1] += changed == "features"
        np.savez(tmp_path / "a.npz", **of_sets)

    world = OneOfTwo(0, 2, CPU)
    monkeypatch.setattr(score_sets, "start_world", lambda *_: world)
    monkeypatch.setattr(score_sets, "all_features", work)
    ood, features = str(tmp_path / "ood"), str(tmp_path / "a.npz")
    arguments = command(tmp_path / "run", sets, tmp_path / "out", "--features", features, ood=[ood])
    arrange(None)
    with pytest.raises(ComparedEqual):
        main(arguments)
    arrange(differs)
    named = {
        "checkpoint": f"the newest checkpoint of {tmp_path / 'run'}",
        "images": f"ood: {ood}",
        "features": f"--features {features}",
    }
    expected = UserError if differs else ComparedEqual
    with pytest.raises(expected, match=f"^{named[differs]} differs" if differs else None):
        main(arguments)


def test_shared_images_are_refused_or_recorded(run, sets, tmp_path):
    with ShardSet.open(sets / "train") as train:
        images = train.read(np.array([0, 1, 2, 3, 4]))
    images[:3] = 255 - images[:3]
    np.save(tmp_path / "leaky.npy", images)
    build(BuildRequest(**npy_request(tmp_path / "leaky.npy", tmp_path / "leaky")))
    arguments = command(run, sets, tmp_path / "out", ood=("ood-a", tmp_path / "leaky"))
    with pytest.raises(UserError, match="2 of leaky are in in-dist-train too"):
        main(arguments)
    assert not (tmp_path / "out").exists()
    main([*arguments, "--allow-overlap"])
    assert results_of(tmp_path / "out")["overlap"] == {"in-dist-train and leaky": 2}


def test_features_of_a_file_need_no_run_and_give_the_same_table(run, sets, scored, tmp_path):
    teacher = load_teacher(run, CPU).backbone
    arrays = {}
    for folder, name in (
        ("train", "in-dist-train"),
        ("test", "in-dist-test"),
        ("ood-a",) * 2,
        ("ood-b",) * 2,
    ):
        with ShardSet.open(sets / folder) as shards:
            arrays[name] = backbone_features(teacher, shards.read(np.arange(len(shards))))
    np.savez(tmp_path / "mine.npz", **arrays)
    arguments = command(run, sets, tmp_path / "out", "--features", str(tmp_path / "mine.npz"))
    main(arguments[1:])
    results = results_of(tmp_path / "out")
    assert results["headline"] == "npz:mine" and list(results["methods"]) == ["npz:mine"]
    assert results["checkpoint"] is None
    assert eq6_aurocs(results, "npz:mine") == eq6_aurocs(results_of(scored))


def test_near_and_far_sets_have_their_means(run, sets, scored, tmp_path):
    main(command(run, sets, tmp_path / "out", "--near", "ood-b"))
    results = results_of(tmp_path / "out")
    assert results["groups"] == {"near": ["ood-b"], "far": ["ood-a"]}
    found = eq6_aurocs(results)
    assert (found["near"], found["far"]) == (found["ood-b"], found["ood-a"])
    assert results_of(scored)["groups"] == {}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--batch", "0"), "--batch is 0"),
        (("--num-threads", "-1"), "--num-threads is -1"),
        (("--tau", "0"), "--tau is 0"),
        (("--tau", "nan"), "--tau is nan"),
        (("--k", "0"), "--k is 0"),
        (("--fpr", "1"), "--fpr is 1"),
        (("--backbone", "resnet18"), "--backbone is resnet18, expected timm:NAME"),
        (("--images", "folder"), "--ood: expected at least one folder, or --images instead"),
        (("--near", "ood-c"), "--near is ood-c, which is none of the OOD sets: ood-a, ood-b"),
    ],
)
def test_options_out_of_range_are_named(run, sets, tmp_path, more, message):
    with pytest.raises(UserError, match=f"^{message}"):
        main(command(run, sets, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


def test_a_collapsed_teacher_has_no_mahalanobis_and_all_else(sets, tmp_path, capsys):
    def change(teacher):
        teacher.backbone.norm.weight.zero_()  # so that every feature is the bias
        teacher.backbone.norm.bias.copy_(torch.arange(1.0, 13.0))

    run = write_run(tmp_path / "run", sets / "train", change)
    out = tmp_path / "out"
    main(command(run, sets, out, "--baselines"))
    told = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert told == [
        "Mahalanobis (SSD) is left out: in-dist-train (trained teacher): cluster 0 of 1 holds 30 "
        "features that do not differ, so it has no covariance"
    ]
    results = results_of(out)
    assert list(results["methods"]["teacher"]["scores"]) == [
        *("eq6", "max-cosine", "knn-1", "knn-5", "entropy", "energy")
    ]
    assert "mahalanobis" in results["methods"]["untrained"]["scores"]
    assert set(eq6_aurocs(results).values()) == {0.5}
    assert "Mahalanobis" not in (out / "table.md").read_text()  # its rows are the teacher's scores
    assert "Mahalanobis" in (out / "report.html").read_text()


def test_help_and_mistakes_do_not_wait_for_torch(tmp_path):
    slow = ("torch", "timm", "torchvision", "sklearn", "scipy", "matplotlib", "nvidia")
    code = (
        "import sys\n"
        "class NothingSlow:\n"
        "    def find_spec(self, name, *_):\n"
        f"        assert name.partition('.')[0] not in {slow!r}, name\n"
        "sys.meta_path.insert(0, NothingSlow())\n"
        "from eval import score\n"
        "from shards.terminal import cli\n"
        "cli.run(score.main)"
    )
    found = run_anew("-c", code, "--help")
    assert found.returncode == 0 and "--in-dist-train" in found.stdout, found.stderr
    found = run_anew("-c", code, "run", "--out", str(tmp_path / "out"))
    assert found.returncode == 2 and found.stderr.startswith("error: --in-dist-train: expected")


def test_at_least_one_ood_set(run, sets, tmp_path):
    with pytest.raises(UserError, match="^--ood: expected at least one folder, or --images"):
        main(command(run, sets, tmp_path / "out", ood=()))
    assert not (tmp_path / "out").exists()


def test_cuda_where_there_is_none(run, sets, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="^--device is cuda"):
        main([*command(run, sets, tmp_path / "out")[:-1], "cuda"])


def test_a_run_without_checkpoint(sets, tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint"):
        main(command(tmp_path, sets, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_output_folder_of_someone_else_is_refused_before_any_work(sets, tmp_path):
    with pytest.raises(UserError, match="^--out"):
        main(command(tmp_path / "no-such-run", sets, sets))


def test_a_black_image_counts_as_a_gray_one_in_the_pixel_baseline(run, sets, tmp_path):
    gray = np.full((3, SIDE_PX, SIDE_PX, 3), 9, dtype=np.uint8)
    found = []
    for name, level in (("gray", 9), ("black", 0)):
        gray[1] = level
        np.save(tmp_path / f"{name}.npy", gray)
        build(BuildRequest(**npy_request(tmp_path / f"{name}.npy", tmp_path / name)))
        out = tmp_path / f"out-{name}"
        main(command(run, sets, out, "--baselines", ood=("ood-a", tmp_path / name)))
        results = results_of(out)
        found.append(eq6_aurocs(results, "pixel")[name])
    assert found[0] == found[1]


def test_a_set_that_the_run_was_trained_on_is_not_scored(run, sets, tmp_path):
    arguments = command(run, sets, tmp_path / "out")
    swapped = [
        argument.replace(str(sets / "train"), "BANK").replace(
            str(sets / "test"), str(sets / "train")
        )
        for argument in arguments
    ]
    swapped = [argument.replace("BANK", str(sets / "test")) for argument in swapped]
    with pytest.raises(UserError, match="in-dist-test: .*train is the set that the run was"):
        main(swapped)
    assert not (tmp_path / "out").exists()


def test_the_set_that_the_run_was_trained_on_is_recorded_if_allowed(run, sets, tmp_path):
    shutil.copytree(sets / "train", tmp_path / "copy")
    arguments = command(run, sets, tmp_path / "out", ood=("ood-a", tmp_path / "copy"))
    with pytest.raises(UserError, match="^in-dist-train and copy hold the same shards: "):
        main(arguments)
    main([*arguments, "--allow-overlap"])
    assert results_of(tmp_path / "out")["overlap"] == {
        "the set that the run was trained on and copy": 30,
        "in-dist-train and copy": 30,
    }


def test_another_bank_than_the_training_set_is_said(run, sets, tmp_path):
    other = npy_set(tmp_path / "other", 30, seed=77)
    arguments = [
        argument.replace(str(sets / "train"), str(other))
        for argument in command(run, sets, tmp_path / "out")
    ]
    main(arguments)
    results = results_of(tmp_path / "out")
    assert results["bank_is_training_set"] is False
    assert "not those the run was trained on" in (tmp_path / "out" / "table.md").read_text()
    main(command(run, sets, tmp_path / "usual"))
    results = results_of(tmp_path / "usual")
    assert results["bank_is_training_set"] is True


def test_a_file_name_that_is_not_utf_8_is_written_as_it_is(run, sets, tmp_path):
    folder_set(tmp_path / "named", 3, seed=5)
    source = tmp_path / "named-source" / "boat" / "image, 0.png"
    strange = os.fsencode(source.parent) + b"/caf\xe9.png"
    os.rename(source, strange)
    request = {**npy_request(tmp_path / "named-source", tmp_path / "strange"), "source": "folder"}
    build(BuildRequest(**request))
    main(command(run, sets, tmp_path / "out", ood=("ood-a", tmp_path / "strange")))
    text = (tmp_path / "out" / "scores" / "strange.csv").read_bytes()
    assert b"caf\xe9.png" in text
