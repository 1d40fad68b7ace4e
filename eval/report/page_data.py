"""Collects the data of a report: the scoring, its images, and the training of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dali_pipes.view_sheets import Column
from eval.report.page import ReportData
from eval.report.views import views_of_run
from eval.results.collect import Scores
from eval.results.scoring import Scoring
from eval.sets.opening import BANK, EvalSets
from shards.errors import UserError
from shards.reader import ShardSet
from train.config import RunConfig
from train.reports.meters import METRICS_FILE_NAME, reports_of
from train.run_folder import to_fields
from train.teacher import LoadedTeacher
from train.watch.collapse import looks_after_step


def report_data(
    scoring: Scoring,
    scores: Scores,
    test_ids: NDArray[np.int64] | None,
    sets: EvalSets,
    features: Mapping[str, Tensor],
    run: Path | None,
    teacher: LoadedTeacher | None,
    tell: Callable[[str], None],
) -> ReportData:
    """Return the data of a report.

    Args:
        scoring: the scoring.
        scores: scores of the headline, per set.
        test_ids: ids of the test images that have scores, int64 [n]. None for all.
        sets: the sets. If they have no shards, the report has no images.
        features: set -> features of the headline's network, float32 [N, d].
        run: folder of the run. None if no run was scored.
        teacher: teacher of the run. None if no run was scored.
        tell: function that shows a line of text to the user. It is called if a part is left out
            because of an error.
    """
    data = ReportData(
        scoring=scoring, scores=scores, test_ids=test_ids, sets=sets.shards, features=features
    )
    if run is None or teacher is None:
        return data
    reports = reports_of(run / METRICS_FILE_NAME)
    return replace(
        data,
        reports=reports,
        unseen_steps=_unseen_steps(teacher.config, reports),
        run_config=to_fields(teacher.config),
        views=_views(sets, teacher, tell),
    )


def _unseen_steps(config: RunConfig, reports: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the last step at which the monitor did not look for collapse.

    The length of an epoch is computed from the last report. None if there is no such report.
    """
    if not (reports and reports[-1].get("epoch")):
        return None
    return looks_after_step(config, round(reports[-1]["step"] / reports[-1]["epoch"]))


def _views(sets: EvalSets, teacher: LoadedTeacher, tell: Callable[[str], None]) -> list[Column]:
    """Return views of the run's training images. Empty if these images are not available.

    An error in the images is shown to the user but not raised, because a report without views is
    better than no report.
    """
    aux = teacher.config.aux
    if not sets.bank_is_training_set(teacher) or (aux is not None and not aux.is_dir()):
        return []
    try:
        with ExitStack() as stack:
            aux_set = stack.enter_context(ShardSet.open(aux)) if aux else None
            return views_of_run(teacher.config, sets.shards[BANK], aux_set)
    except UserError as error:
        tell(f"the report leaves out the views: {error}")
        return []
