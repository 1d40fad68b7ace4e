"""The figures of one scoring and of several: they show the right numbers."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import roc_auc_score

from eval import compare
from eval.results.figures import save_histogram, save_roc
from shards.errors import UserError
from tests.support.results_cases import made_up_probes, made_up_scoring, set_facts, trained


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, by the name of their file."""
    figures = {}
    save = Figure.savefig

    def remember(figure, path, **options):
        figures[path.name] = figure
        save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


def scores():
    rng = np.random.default_rng(0)
    return {
        "in-dist-test": rng.normal(size=80),
        "svhn": rng.normal(size=60) + 1.5,
        "_lsun$": rng.normal(size=70).round(1) + 0.5,
    }


def test_roc_curves_are_of_each_set(tmp_path, drawn):
    sets = scores()
    save_roc(tmp_path / "roc.png", sets)
    assert Image.open(tmp_path / "roc.png").size == (720, 720)
    axis = drawn["roc.png"].axes[0]
    shown = [text.get_text() for text in axis.get_legend().get_texts()]
    for line, (name, ood) in zip(axis.lines, list(sets.items())[1:], strict=False):
        truth = roc_auc_score(np.repeat([0, 1], [80, len(ood)]), np.r_[sets["in-dist-test"], ood])
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(truth, abs=1e-12)
        assert f"{100 * truth:.2f} %  {name}".replace("$", r"\$") in shown


def test_histogram_has_a_panel_a_method(tmp_path, drawn):
    save_histogram(tmp_path / "histogram.png", {"one": scores(), "two": scores()})
    axes = drawn["histogram.png"].axes
    assert [axis.get_title().split(":")[0] for axis in axes] == ["one", "two"]
    assert len(axes[0].patches) == 2
    for steps in axes[0].patches:
        assert sum(steps.get_data().values) == pytest.approx(100)


def test_names_are_drawn_as_they_are(tmp_path, drawn):
    """A name is never drawn as a formula, and bytes that are not UTF-8 are escaped."""
    names = {"x$^$": r"x\$^\$", "caf\udce9": r"caf\udce9"}
    save_histogram(tmp_path / "histogram.png", dict.fromkeys(names, scores()))
    titles = [axis.get_title().split(":")[0] for axis in drawn["histogram.png"].axes]
    assert titles == [*names.values()]
    in_dist, ood, _ = scores().values()
    save_roc(tmp_path / "roc.png", {"in-dist-test": in_dist, **dict.fromkeys(names, ood)})
    legend = drawn["roc.png"].axes[0].get_legend().get_texts()
    assert [text.get_text().split("  ")[1] for text in legend] == [*names.values()]


# ------------------------------------------------------------------------------- several runs
STRATEGIES = ("none", "rot-in", "combined")


def written_runs(folder, **changes):
    """Write results.json of three runs, each better than the one before."""
    paths = []
    for place, negatives in enumerate(STRATEGIES):
        scoring = made_up_scoring(
            ("cifar100-test", "svhn"),
            protocol="icann22",
            groups={"near": ["cifar100-test"], "far": ["svhn"]},
            start=0.8 + 0.02 * place,
            training=trained(negatives),
            probes=made_up_probes(0.7 + 0.1 * place, 900 - 100 * place, 0.52 + 0.03 * place),
        )
        content = scoring.to_json() | (changes if place == 2 else {})
        path = folder / f"run-{place}" / "results.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
        paths.append(str(path))
    return paths


def markers(axis):
    """Return x, y and colour of each marker."""
    lines = [line for line in axis.lines if line.get_marker() in ("o", "s")]
    return [(*line.get_xydata()[0], line.get_color()) for line in lines]


@pytest.mark.slow
def test_figures_2_and_3_show_each_run(tmp_path, drawn):
    out = tmp_path / "out"
    columns = ["--columns", "svhn", "mean"]
    compare.main([str(out), "--results", *written_runs(tmp_path), *columns])
    bars, over = drawn["fig2.png"].axes
    assert [patch.get_width() for patch in bars.patches] == [900, 800, 700]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["run-0", "run-1", "run-2"]
    at = [point[:2] for point in markers(over)]
    assert np.allclose(at, [(900, 81), (800, 83), (700, 85)])
    knn_svhn, knn_mean, sensitivity_svhn, sensitivity_mean = drawn["fig3.png"].axes
    for axis, expected in (
        (knn_svhn, [(70, 81), (80, 83), (90, 85)]),
        (knn_mean, [(70, 80.5), (80, 82.5), (90, 84.5)]),
        (sensitivity_svhn, [(52, 81), (55, 83), (58, 85)]),
        (sensitivity_mean, [(52, 80.5), (55, 82.5), (58, 84.5)]),
    ):
        assert np.allclose([point[:2] for point in markers(axis)], expected)
    colours = [[point[2] for point in markers(axis)] for axis in drawn["fig3.png"].axes]
    assert len(set(colours[0])) == 3 and colours == [colours[0]] * 4
    assert {path.name for path in out.iterdir()} == {
        *("fig2.png", "fig3.png", "table.md", "table.csv", "table.tex")
    }


@pytest.mark.slow
def test_the_joint_table_has_a_row_a_run_and_the_papers(tmp_path):
    compare.main([str(tmp_path / "out"), "--results", *written_runs(tmp_path)])
    with (tmp_path / "out" / "table.csv").open(encoding="utf-8") as file:
        rows = {tuple(line[1:2]): line[2:] for line in csv.reader(file) if len(line) > 5}
    assert rows["row",] == ["cifar100-test", "svhn", "near", "far", "mean", "all"]
    assert rows["run-1",][:2] == ["82.0000", "83.0000"]
    assert rows["paper, Rot. In-Dist.",][:2] == ["93.9600", "99.9200"]  # Table 2
    text = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "| run-2 | 90.00 | 700 | 58.00 |" in text
    assert "run-2: negatives combined" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 1}, "run-2.*format_version is 1, expected 2"),
        ({"probes": {}}, "run-2.*has no probe sensitivity"),
        ({"tau": "0.04"}, "run-2.*cannot be read .tau is '0.04', expected float"),
        ({"methods": {"teacher": {"scores": {}}}}, "run-2.*cannot be read .label is missing"),
        ({"settings": None}, "run-2.*cannot be read"),
        ({"counts": {"in-dist-test": 3}}, "counts differs: .*run-0.*run-2"),
        ({"tau": 0.1}, "tau differs"),
        (
            {"manifests": {"in-dist-test": dataclasses.asdict(set_facts("cifar10-test", 7))}},
            "in-dist-test is another set in .*run-2",
        ),
        ({"manifests": {}}, "in-dist-test is another set in .*run-2"),
    ],
)
def test_runs_that_cannot_stand_beside_each_other(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        compare.main([str(tmp_path / "out"), "--results", *written_runs(tmp_path, **changes)])
    assert not (tmp_path / "out").exists()


def test_files_and_columns_that_are_not_there(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    verdicts = tmp_path / "verdicts.json"
    verdicts.write_text(json.dumps({"format_version": 2, "images": {"unreadable": 0}}))
    for argv, message in (
        (["--results", str(tmp_path / "no.json")], "no.json: no such file"),
        (["--results", str(broken)], "broken.json: cannot be read"),
        (["--results", str(verdicts)], "verdicts.json: is of --images, not of OOD sets"),
        (
            ["--results", *written_runs(tmp_path), "--columns", "lsun"],
            "--columns is lsun, there are: cifar100-test, svhn",
        ),
    ):
        with pytest.raises(UserError, match=message):
            compare.main([str(tmp_path / "out"), *argv])


@pytest.mark.slow
def test_runs_of_one_folder_name_are_told_apart(tmp_path):
    paths = written_runs(tmp_path / "a")[:1] + written_runs(tmp_path / "b")[:1]
    compare.main([str(tmp_path / "out"), "--results", *paths])
    text = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "| a/run-0 |" in text and "| b/run-0 |" in text


def changed(path, **changes):
    with open(path, encoding="utf-8") as file:
        content = json.load(file) | changes
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file)


@pytest.mark.slow
def test_what_a_run_lacks_is_left_out(tmp_path, drawn):
    paths = written_runs(tmp_path)
    probes = made_up_scoring(probes=made_up_probes(0.8, 800, 0.55)).to_json()["probes"]
    changed(paths[1], probes={key: probes[key] for key in ("knn_accuracy", "sensitivity")})
    changed(paths[2], probes={key: probes[key] for key in ("occupied", "sensitivity")})
    compare.main([str(tmp_path / "out"), "--results", *paths, "--columns", "svhn"])
    bars, over = drawn["fig2.png"].axes
    assert [label.get_text() for label in bars.get_yticklabels()] == ["run-0", "run-2"]
    assert np.allclose([point[:2] for point in markers(over)], [(900, 81), (800, 85)])
    knn, sensitivity = drawn["fig3.png"].axes
    assert np.allclose([point[:2] for point in markers(knn)], [(70, 81), (80, 83)])
    colours = [point[2] for point in markers(sensitivity)]
    assert [point[2] for point in markers(over)] == [colours[0], colours[2]]
    text = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "| run-1 | 80.00 | – | 55.00 |" in text and "| run-2 | – | 800 | 55.00 |" in text
    assert (
        "in bank and test set; without: run-2." in text and "as the bank; without: run-1." in text
    )


def test_scorings_of_features_alone(tmp_path, drawn):
    paths = written_runs(tmp_path)
    for path in paths:
        probes = {"sensitivity": made_up_scoring().to_json()["probes"]["sensitivity"]}
        changed(path, probes=probes, protocol="custom", manifests={}, checkpoint=None)
    compare.main([str(tmp_path / "out"), "--results", *paths])
    assert drawn.keys() == {"fig3.png"} and len(drawn["fig3.png"].axes) == 2
    assert "fig2.png" not in [path.name for path in (tmp_path / "out").iterdir()]


@pytest.mark.slow
def test_only_a_comparison_is_replaced(tmp_path):
    paths = written_runs(tmp_path)
    command = [str(tmp_path / "out"), "--results", *paths]
    compare.main(command)
    (tmp_path / "out" / "table.md").write_text("old")
    compare.main(command)
    assert (tmp_path / "out" / "table.md").read_text(encoding="utf-8") != "old"
    for held, fault in (
        (["results.json", "fig3.png"], "holds 'results.json', which no comparison wrote"),
        (["table.csv"], "has no fig3.png"),
    ):
        folder = tmp_path / f"with {held[0]}"
        folder.mkdir()
        for each in held:
            (folder / each).write_text("mine")
        with pytest.raises(UserError, match=f"^OUT {folder}: .*{fault}.*not replaced"):
            compare.main([str(folder), "--results", *paths])
        assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(
            held, "mine"
        )
