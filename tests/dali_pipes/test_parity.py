"""The comparison of engines itself: all pass it, and broken ones do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dali_pipes.parity import compare, draws, reference
from dali_pipes.parity.compare import STATED, Engine, Limit, ParityConfig
from dali_pipes.view_params import ViewDraw, draw_views

FEW = ParityConfig(images=8, draws=2000)
LOOSE = Limit(mean=1.0, view=4.0)
ENGINES = compare.engines(["cpu"])


def oracle(change: Callable[[ViewDraw], ViewDraw] = lambda draw: draw, name="oracle") -> Engine:
    """The reference as an engine, with other parameters than it is given."""

    def render(images: np.ndarray, draw: ViewDraw, side_px: int, early) -> np.ndarray:
        return reference.reference_views(images, change(draw), side_px, "exact", early)

    return Engine(name, render, LOOSE, LOOSE, sources_px=(32,))


@pytest.fixture
def small_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SIDES", {"global-1": 64, "local": 48})


def is_near(row: compare.Row) -> bool:
    """Within twice the limits: a few views guard against breakage, `make parity` judges many."""
    pairs = ((row.mean, row.limit.mean), (row.view, row.limit.view), (row.worst, row.limit.worst))
    return all(limit is None or value <= 2 * limit for value, limit in pairs)


@pytest.mark.parametrize("source_px", [32, 256])
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_every_engine_makes_about_the_views_of_the_reference(engine, source_px) -> None:
    rows = list(compare.compare_views([engine], FEW, (source_px,)))
    assert not [row for row in rows if not is_near(row)]
    assert bool(rows) == (source_px in engine.sources_px)


def test_every_shift_is_that_of_the_reference() -> None:
    rows = list(compare.compare_shifts(compare.shifters(["cpu"]), replace(FEW, images=4)))
    assert len(rows) > 30 and not [row for row in rows if not row.passed]


BROKEN: dict[str, Callable[[ViewDraw], ViewDraw]] = {
    "no flip": lambda draw: replace(draw, flip=0 * draw.flip),
    "flipped always": lambda draw: replace(draw, flip=0 * draw.flip + 1),
    "a crop one pixel off": lambda draw: replace(
        draw, crop_start=np.minimum(draw.crop_start + 1, 32 - draw.crop_shape)
    ),
    "height for width": lambda draw: replace(
        draw,
        crop_start=draw.crop_start[:, ::-1],
        crop_shape=draw.crop_shape[:, ::-1],
    ),
    "hue as a fraction": lambda draw: replace(draw, hue_deg=draw.hue_deg / 360),
    "hue the other way": lambda draw: replace(draw, hue_deg=-draw.hue_deg),
    "no brightness": lambda draw: replace(draw, brightness=draw.brightness * 0 + 1),
    "contrast as saturation": lambda draw: replace(draw, saturation=draw.contrast),
    "no gray": lambda draw: replace(draw, gray=draw.gray & False),
    "half the blur": lambda draw: replace(draw, blur_sigma_px=draw.blur_sigma_px / 2),
    "no solarization": lambda draw: replace(draw, solarize=draw.solarize & False),
    "one order for all": lambda draw: replace(
        draw, jitter_order=np.sort(draw.jitter_order, axis=1)
    ),
}


def test_broken_engines_fail(small_views) -> None:
    engines = [oracle(), *(oracle(change, name) for name, change in BROKEN.items())]
    rows = list(compare.compare_views(engines, FEW, (32,)))
    assert {row.engine for row in rows if not row.passed} == set(BROKEN)
    assert all(row.mean == row.worst == 0 for row in rows if row.engine == "oracle")


def test_an_error_in_one_view_is_not_lost_in_the_mean() -> None:
    views = np.zeros((100, 8, 8, 3), np.uint8)
    wrong = views.copy()
    wrong[7] = 20
    mean, view, worst = compare.difference(wrong, views)
    assert (mean, view, worst) == (pytest.approx(0.2), 20, 20)
    row = compare.Row("view", "", "", mean, view, worst, None, LOOSE)
    assert row.verdict == "FAIL"
    assert replace(row, limit=STATED).verdict == "stated"


def test_the_laws_of_the_draws_pass_and_broken_ones_fail(monkeypatch) -> None:
    assert all(law.passed for law in draws.compare_draws(2000, seed=1))

    def broken(*given) -> ViewDraw:
        draw = draw_views(*given)
        return replace(draw, hue_deg=draw.hue_deg / 360, gray=draw.gray | draw.solarize)

    monkeypatch.setattr(draws, "draw_views", broken)
    failed = {law.quantity for law in draws.compare_draws(2000, seed=1) if not law.passed}
    assert failed == {"hue, degrees", "gray (global-2)", "gray (global-any)"}


@pytest.mark.parametrize(("engine", "status"), [(oracle(), 0), (oracle(BROKEN["no gray"]), 1)])
def test_the_command_prints_one_object_and_tells_by_its_status(
    small_views, monkeypatch, capsys, engine, status
) -> None:
    monkeypatch.setattr(compare, "engines", lambda devices: [engine])
    monkeypatch.setattr(compare, "shifters", lambda devices: {})
    with pytest.raises(SystemExit) as stopped:
        compare.main(["--images", "4", "--draws", "500"])
    assert stopped.value.code == status
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["passed"] == (status == 0)
    assert {row["operation"] for row in report["rows"]} >= {"gray", "view", "solarize"}
    assert len(report["draws"]) > 40
