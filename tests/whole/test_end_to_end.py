"""From real images to the table: the sample's shards, a short training, scores with baselines."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from tests.support.browser import Browser, find_browser
from tests.support.commands import run_command
from tests.support.paths import ROOT
from tests.support.train_cases import TINY

pytestmark = pytest.mark.slow

OOD = ["trouser", "bag"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The steps of `make demo` with fewer steps, a smaller network and two OOD sets."""
    out = tmp_path_factory.mktemp("demo")
    shards = out / "shards"
    commands = [
        ["-m", "shards.sets", "--protocol", "fashion-footwear"]
        + ["--src", "shards/sample", "--out", str(shards)],
        ["train/main.py", "demo-cpu", "--in-dist", str(shards / "in-dist-train")]
        + ["--out", str(out / "run"), *TINY, "--global-batch", "128", "--epochs", "1"],
        ["eval/score.py", str(out / "run"), "--baselines", "--out", str(out / "scores")]
        + ["--in-dist-train", str(shards / "in-dist-train")]
        + ["--in-dist-test", str(shards / "in-dist-test")]
        + ["--ood", *(str(shards / name) for name in OOD)],
    ]
    for command in commands:
        result = run_command(*command, cwd=ROOT)
        assert result.returncode == 0, result.stderr
    assert "trained teacher" in result.stdout and "pixel cosine" in result.stdout
    return out


def test_results_hold_every_auroc_in_its_place(demo) -> None:
    results = json.loads((demo / "scores" / "results.json").read_text())
    assert list(results["methods"]) == ["pixel", "untrained", "teacher"]
    for method in results["methods"].values():
        for table in method["scores"].values():
            assert list(table) == [*OOD, "mean", "all"]
            for metrics in table.values():
                rates = [metrics[name] for name in ("auroc", "aupr_ood", "aupr_in", "fpr95")]
                assert all(0 <= r["low"] <= r["value"] <= r["high"] <= 1 for r in rates)
    assert results["bank_size"] == 6144 and results["counts"]["in-dist-test"] == 900
    assert results["protocol"] == "fashion-footwear"


def scores_of(demo: Path, name: str) -> np.ndarray:
    with (demo / "scores" / "scores" / f"{name}.csv").open() as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file)])


def test_aurocs_are_those_of_the_written_scores(demo) -> None:
    results = json.loads((demo / "scores" / "results.json").read_text())
    in_dist = scores_of(demo, "in-dist-test")
    ood = {name: scores_of(demo, name) for name in OOD}
    ood["all"] = np.concatenate(list(ood.values()))
    for name, values in ood.items():
        truth = np.r_[np.zeros(len(in_dist)), np.ones(len(values))]
        expected = roc_auc_score(truth, np.r_[in_dist, values])
        found = results["ensemble"]["score"][name]["auroc"]["value"]
        assert found == pytest.approx(expected, abs=1e-12)


def test_the_pixel_baseline_separates_trousers_from_shoes(demo) -> None:
    """A check of the sign on real images: 1 - AUROC would be far below a half."""
    results = json.loads((demo / "scores" / "results.json").read_text())
    assert results["methods"]["pixel"]["scores"]["eq6"]["trouser"]["auroc"]["value"] > 0.8


def test_table_and_picture_are_written(demo) -> None:
    table = (demo / "scores" / "table.md").read_text()
    for words in ("pixel cosine", "untrained network", "trained teacher", "bag", "6,144"):
        assert words in table, words
    picture = Image.open(demo / "scores" / "histogram.png")
    assert picture.width > 400 and len(np.unique(np.asarray(picture.convert("L")))) > 10


@pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine")
def test_the_report_opens_without_a_complaint_or_a_request(demo, tmp_path) -> None:
    page = demo / "scores" / "report.html"
    with Browser(str(find_browser()), tmp_path / "profile") as browser:
        for width_px in (390, 1200):
            browser.open(page, width_px)
            assert browser.complaints == []
            loaded = [url for url in browser.requests if not url.startswith("data:")]
            assert loaded == [page.absolute().as_uri()]
            assert browser.run("document.documentElement.scrollWidth") <= width_px
        text = browser.run("document.body.innerText")
    results = json.loads((demo / "scores" / "results.json").read_text())
    for metrics in results["methods"]["teacher"]["scores"]["eq6"].values():
        assert f"{100 * metrics['auroc']['value']:.2f}" in text


def test_an_ood_set_that_is_the_bank_is_refused_and_the_scores_stay(demo) -> None:
    before = (demo / "scores" / "results.json").read_bytes()
    bank = str(demo / "shards" / "in-dist-train")
    result = run_command(
        *["eval/score.py", str(demo / "run"), "--out", str(demo / "scores")],
        *["--in-dist-train", bank, "--in-dist-test", str(demo / "shards" / "in-dist-test")],
        *["--ood", bank],
    )
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "in-dist-train" in result.stderr
    assert (demo / "scores" / "results.json").read_bytes() == before
