"""The drawings of a report: that each shows the numbers of the set that it is named after."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from eval.report import figures
from eval.report.page import ReportData, page
from tests.support.report_cases import HOSTILE, TEST, Reader, full_report


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return full_report(tmp_path_factory.mktemp("report"))


def path(svg: str, style: str) -> np.ndarray:
    """Points [P, 2] of the path with this style, downwards from the top."""
    (found,) = re.findall(rf'<path d="([^"]*)"[^>]*style="{re.escape(style)}', svg)
    return np.array(re.findall(r"[ML] (\S+) (\S+)", found), np.float64)


TICKS = re.compile(r'<text [^>]*x="(\S+)" y="(\S+)"[^>]*>(\d+)</text>')


def line(svg: str, number: int) -> np.ndarray:
    return path(svg, f"fill: none; stroke: var(--c{number}); ")


def shares(svg: str, number: int) -> np.ndarray:
    """Heights of the steps of a histogram, of which the highest in the drawing is 1."""
    both = [path(svg, f"fill: var(--c{of_set}); ") for of_set in (0, 1)]
    highest = max(np.ptp(steps[:, 1]) for steps in both)
    steps = both[number][:, 1]
    return (steps[0] - steps[1:-1:2]) / highest


def area(curve: np.ndarray) -> float:
    (left, bottom), (right, top) = curve[0], curve[-1]
    heights = (bottom - curve[:, 1]) / (bottom - top)
    return float(np.trapezoid(heights, (curve[:, 0] - left) / (right - left)))


def true_area(in_dist: np.ndarray, ood: np.ndarray) -> float:
    is_ood = np.repeat([False, True], [len(in_dist), len(ood)])
    return roc_auc_score(is_ood, np.concatenate([in_dist, ood]))


@pytest.mark.parametrize(("decimals", "count"), [(6, 50), (1, 50), (6, 20_000)])
def test_the_area_of_a_roc_curve_is_the_auroc_and_its_drawing_is_small(decimals, count) -> None:
    rng = np.random.default_rng(0)
    in_dist = rng.normal(0, 1, count + 20).round(decimals)
    ood = rng.normal(1, 1, count).round(decimals)
    svg = figures.roc_chart({TEST: in_dist, "ood": ood})
    assert area(line(svg, 0)) == pytest.approx(true_area(in_dist, ood), abs=2e-3)
    assert len(svg) < 60_000


def test_the_heights_of_a_histogram_are_shares_of_its_own_images() -> None:
    in_dist, ood = np.array([0.0, 0, 0, 1]), np.array([1.0, 1])
    svg = figures.histogram("title", np.array([0.0, 0.5, 1.0]), in_dist, ood)
    np.testing.assert_allclose(shares(svg, 0), [0.75, 0.25], atol=1e-3)
    np.testing.assert_allclose(shares(svg, 1), [0, 1], atol=1e-3)


@pytest.mark.slow
def test_each_curve_and_histogram_is_of_the_set_that_is_named(full) -> None:
    text = page(full)
    names = ["svhn", HOSTILE]
    legend = text.split('<ul class="legend">')[1].split("</ul>")[0]
    swatches = re.findall(r'class="swatch (c\d)"></span>(.*?) <span', legend)
    assert [(kind, Reader(name).text) for kind, name in swatches] == [
        ("c0", names[0]),
        ("c1", names[1]),
    ]
    whole = re.search(r"<figcaption>Whole</figcaption>(.*?)</figure>", text, re.S)[1]
    drawn = text.split('<div class="charts">')[1].split("</section>")[0].split("<figure>")[1:]
    edges = np.histogram_bin_edges(np.concatenate([*full.scores.values()]), figures.BINS)
    for number, (name, figure) in enumerate(zip(names, drawn, strict=True)):
        both = [full.scores[TEST], full.scores[name]]
        assert area(line(whole, number)) == pytest.approx(true_area(*both), abs=2e-3)
        expected = [np.histogram(scores, edges)[0] / len(scores) for scores in both]
        highest = max(heights.max() for heights in expected)
        for of_set, heights in enumerate(expected):
            np.testing.assert_allclose(shares(figure, of_set), heights / highest, atol=4e-3)


def test_the_corner_shows_the_same_curve_larger() -> None:
    rng = np.random.default_rng(1)
    scores = {TEST: rng.normal(size=40), "ood": rng.normal(2, 1, 30)}
    found = []
    for part, first in ((1, "0"), (0.25, "75")):
        svg = figures.roc_chart(scores, part)
        ticks = TICKS.findall(svg)  # first those across, then those down
        across = {text: float(x) for x, _, text in reversed(ticks)}
        down = {text: float(y) for _, y, text in ticks}
        curve = line(svg, 0)
        reached = curve[curve[:, 0] <= across["20"], 1].min()
        # Both ticks lie equally far below their places.
        height = (down[first] - down["100"]) / (100 - float(first))
        found.append((path(svg, "fill: none; stroke-dasharray")[0, 1] - reached) / height)
    assert found[0] == pytest.approx(found[1], abs=0.5)  # TPR at an FPR of 20 %, less 95 %


def test_lines_after_the_last_colour_are_dashed_as_in_the_legend() -> None:
    scores = {TEST: np.arange(9.0), **{f"set {i}": np.arange(9.0) + i for i in range(10)}}
    svg = figures.roc_chart(scores)
    assert [figures.line_class(i) for i in (0, 7, 8)] == ["c0", "c7", "c0 dashed"]
    styles = re.findall(r'style="(fill: none;[^"]*stroke: var\(--c\d\)[^"]*)"', svg)
    drawn = [
        re.search(r"--(c\d)", style)[1] + (" dashed" if "dasharray" in style else "")
        for style in styles
    ]
    assert drawn == [figures.line_class(i) for i in range(10)]


def test_a_training_chart_shows_points_warnings_and_a_level() -> None:
    steps = np.array([10.0, 20, 30])
    svg = figures.training_chart("loss", [(steps, steps / 10)], [20], 6.0)
    points = line(svg, 0)
    slopes = np.diff(points[:, 1]) / np.diff(points[:, 0])
    assert slopes[0] == pytest.approx(slopes[-1], rel=1e-4) and slopes[0] < 0  # upwards
    at, level = line(svg, 7), path(svg, "fill: none; stroke-dasharray: ")
    assert at[:, 0] == pytest.approx(np.full(2, points[[0, -1], 0].mean()), abs=0.1)
    assert (level[:, 1] < points[:, 1].min()).all()
    alone = figures.training_chart("loss", [(steps[:1], steps[:1])], [], None)
    assert re.search(r"<use [^>]*fill: var\(--c0\)", alone)  # a point, which makes no line


def test_a_drawing_has_the_colours_of_the_page_and_a_title() -> None:
    svg = figures.histogram(HOSTILE, np.arange(3.0), np.ones(2), np.ones(2))
    assert not re.findall(r"#[0-9a-f]{6}", svg)
    read = Reader(svg)
    assert read.of("svg")[0]["aria-label"] == HOSTILE and "script" not in dict(read.tags)
    assert {text["style"].split("fill: ")[1] for text in read.of("text")} == {"var(--muted)"}
