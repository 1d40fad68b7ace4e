"""Fixtures of the evaluation tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.report.page import ReportData
from tests.support.report_cases import bare_report, full_report
from tests.support.small_sets import write_sets, write_trained_run


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of four small shard sets."""
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def run(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was trained on one of `sets`."""
    return write_trained_run(tmp_path_factory.mktemp("runs") / "run", sets / "train")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """The data of a report with every part."""
    return full_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """The data of a report without the parts that may be left out."""
    return bare_report(tmp_path_factory.mktemp("bare"))
