"""Gathers what the report of one scoring shows: results, pictures, and the story of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from dali_pipes.preview import Column
from eval.report import ReportData
from eval.report_views import views_of_run
from eval.results import Scores
from eval.sets import BANK, EvalSets
from shards.reader import ShardSet
from train.checkpoint import LoadedTeacher
from train.meters import METRICS_FILE_NAME
from train.run_folder import to_fields


def report_data(
    results: Mapping[str, Any],
    scores: Scores,
    sets: EvalSets,
    features: Mapping[str, Tensor],
    run: Path | None,
    teacher: LoadedTeacher | None,
) -> ReportData:
    """What `eval.report.write_report` takes.

    Args:
        results: content of results.json.
        scores: Eq. 6 of the headline.
        sets: the sets; without shards, the report has no images.
        features: set -> float32 [N, d], the headline's.
        run: folder of the run, if one was scored.
        teacher: its teacher.

    Raises:
        UserError: the auxiliary images of the run are there and not as they were built.
    """
    if run is None or teacher is None:
        return ReportData(results=results, scores=scores, sets=sets.shards, features=features)
    metrics = run / METRICS_FILE_NAME
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return ReportData(
        results=results,
        scores=scores,
        sets=sets.shards,
        features=features,
        reports=[json.loads(line) for line in lines],
        run_config=to_fields(teacher.config),
        views=_views(sets, teacher),
    )


def _views(sets: EvalSets, teacher: LoadedTeacher) -> list[Column]:
    """Views of the run's images; none where its auxiliary images are no longer where they were."""
    aux = teacher.config.aux
    if aux is not None and not aux.is_dir():
        return []
    with ExitStack() as stack:
        aux_set = stack.enter_context(ShardSet.open(aux)) if aux else None
        return views_of_run(teacher.config, sets.shards[BANK], aux_set)
