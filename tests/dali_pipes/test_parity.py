"""The comparison with the reference: all engines pass it, and broken engines fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dali_pipes.parity import compare, distributions, engines, reference, shifters
from dali_pipes.parity.__main__ import main
from dali_pipes.parity.config import ParityConfig
from dali_pipes.parity.differences import STATED, Limit, Row, difference
from dali_pipes.parity.engines import Engine
from dali_pipes.view_params import ViewParams, draw_view_params

pytestmark = pytest.mark.slow

FEW = ParityConfig(images=8, draws=2000)
LOOSE = Limit(mean=1.0, view=4.0)
ENGINES = engines.engines(["cpu"])


def oracle(
    change: Callable[[ViewParams], ViewParams] = lambda params: params, name="oracle"
) -> Engine:
    """Return the reference as an engine that changes the parameters that it is given."""

    def render(images: np.ndarray, params: ViewParams, side_px: int, early) -> np.ndarray:
        return reference.reference_views(images, change(params), side_px, "exact", early)

    return Engine(name, render, LOOSE, LOOSE, images_px=(32,))


@pytest.fixture
def small_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SIDES", {"global-1": 64, "local": 48})


def is_near(row: Row) -> bool:
    """True within twice the limits: few views are tried here; `make parity` judges many."""
    pairs = ((row.mean, row.limit.mean), (row.view, row.limit.view), (row.worst, row.limit.worst))
    return all(limit is None or value <= 2 * limit for value, limit in pairs)


@pytest.mark.parametrize("image_px", [32, 256])
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_every_engine_makes_about_the_views_of_the_reference(engine, image_px) -> None:
    rows = list(compare.compare_views([engine], FEW, (image_px,)))
    assert not [row for row in rows if not is_near(row)]
    assert bool(rows) == (image_px in engine.images_px)


def test_every_shift_equals_the_reference() -> None:
    rows = list(compare.compare_shifts(shifters.shifters(["cpu"]), replace(FEW, images=4)))
    assert len(rows) > 30 and not [row for row in rows if not row.passed]


BROKEN: dict[str, Callable[[ViewParams], ViewParams]] = {
    "no flip": lambda params: replace(params, flip=0 * params.flip),
    "flipped always": lambda params: replace(params, flip=0 * params.flip + 1),
    "a crop one pixel off": lambda params: replace(
        params, crop_start=np.minimum(params.crop_start + 1, 32 - params.crop_shape)
    ),
    "height for width": lambda params: replace(
        params,
        crop_start=params.crop_start[:, ::-1],
        crop_shape=params.crop_shape[:, ::-1],
    ),
    "hue as a fraction": lambda params: replace(params, hue_deg=params.hue_deg / 360),
    "hue the other way": lambda params: replace(params, hue_deg=-params.hue_deg),
    "no brightness": lambda params: replace(params, brightness=params.brightness * 0 + 1),
    "contrast as saturation": lambda params: replace(params, saturation=params.contrast),
    "no gray": lambda params: replace(params, gray=params.gray & False),
    "half the blur": lambda params: replace(params, blur_sigma_px=params.blur_sigma_px / 2),
    "no solarization": lambda params: replace(params, solarize=params.solarize & False),
    "one order for all": lambda params: replace(
        params, jitter_order=np.sort(params.jitter_order, axis=1)
    ),
}


def test_broken_engines_fail(small_views) -> None:
    tried = [oracle(), *(oracle(change, name) for name, change in BROKEN.items())]
    rows = list(compare.compare_views(tried, FEW, (32,)))
    assert {row.engine for row in rows if not row.passed} == set(BROKEN)
    assert all(row.mean == row.worst == 0 for row in rows if row.engine == "oracle")


def test_an_error_in_one_view_is_not_lost_in_the_mean() -> None:
    views = np.zeros((100, 8, 8, 3), np.uint8)
    wrong = views.copy()
    wrong[7] = 20
    mean, view, worst = difference(wrong, views)
    assert (mean, view, worst) == (pytest.approx(0.2), 20, 20)
    row = Row("view", "", "", mean, view, worst, None, LOOSE)
    assert row.verdict == "FAIL"
    assert replace(row, limit=STATED).verdict == "stated"


def test_the_distributions_pass_and_broken_ones_fail(monkeypatch) -> None:
    assert all(one.passed for one in distributions.compare_distributions(2000, seed=1))

    def broken(*given) -> ViewParams:
        params = draw_view_params(*given)
        return replace(params, hue_deg=params.hue_deg / 360, gray=params.gray | params.solarize)

    monkeypatch.setattr(distributions, "draw_view_params", broken)
    failed = {
        one.quantity for one in distributions.compare_distributions(2000, seed=1) if not one.passed
    }
    assert failed == {"hue, degrees", "gray (global-2)", "gray (global-any)"}


@pytest.mark.parametrize(("engine", "status"), [(oracle(), 0), (oracle(BROKEN["no gray"]), 1)])
def test_the_command_prints_one_object_and_tells_by_its_status(
    small_views, monkeypatch, capsys, engine, status
) -> None:
    monkeypatch.setattr(engines, "engines", lambda devices: [engine])
    monkeypatch.setattr(shifters, "shifters", lambda devices: {})
    with pytest.raises(SystemExit) as stopped:
        main(["--images", "4", "--draws", "500"])
    assert stopped.value.code == status
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["passed"] == (status == 0)
    assert {row["operation"] for row in report["rows"]} >= {"gray", "view", "solarize"}
    assert len(report["draws"]) > 40
