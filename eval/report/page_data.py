"""Gathers what the report of one scoring shows: results, pictures, and the story of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from dali_pipes.view_sheets import Column
from eval.report.page import ReportData
from eval.report.views import views_of_run
from eval.results.collect import Scores
from eval.sets.opening import BANK, EvalSets
from shards.errors import UserError
from shards.reader import ShardSet
from train.config import RunConfig
from train.reports.meters import METRICS_FILE_NAME, reports_of
from train.run_folder import to_fields
from train.teacher import LoadedTeacher
from train.watch.collapse import looks_after_step


def report_data(
    results: Mapping[str, Any],
    scores: Scores,
    sets: EvalSets,
    features: Mapping[str, Tensor],
    run: Path | None,
    teacher: LoadedTeacher | None,
    tell: Callable[[str], None],
) -> ReportData:
    """What `eval.report.page.write_report` takes.

    Args:
        results: content of results.json.
        scores: Eq. 6 of the headline.
        sets: the sets; without shards, the report has no images.
        features: set -> float32 [N, d], the headline's.
        run: folder of the run, if one was scored.
        teacher: its teacher.
        tell: takes a line on what is left out.
    """
    if run is None or teacher is None:
        return ReportData(results=results, scores=scores, sets=sets.shards, features=features)
    reports = reports_of(run / METRICS_FILE_NAME)
    return ReportData(
        results=results,
        scores=scores,
        sets=sets.shards,
        features=features,
        reports=reports,
        unseen_steps=_unseen_steps(teacher.config, reports),
        run_config=to_fields(teacher.config),
        views=_views(sets, teacher, tell),
    )


def _unseen_steps(config: RunConfig, reports: Sequence[Mapping[str, Any]]) -> int | None:
    """See `ReportData.unseen_steps`; a report tells how long an epoch is."""
    if not (reports and reports[-1].get("epoch")):
        return None
    return looks_after_step(config, round(reports[-1]["step"] / reports[-1]["epoch"]))


def _views(sets: EvalSets, teacher: LoadedTeacher, tell: Callable[[str], None]) -> list[Column]:
    """Views of the run's images; none where the images that it was trained on are not at hand.

    A report without them is better than none: whatever is wrong with them is told, not raised.
    """
    aux = teacher.config.aux
    if not sets.bank_is_training_set(teacher) or (aux is not None and not aux.is_dir()):
        return []
    try:
        with ExitStack() as stack:
            aux_set = stack.enter_context(ShardSet.open(aux)) if aux else None
            return views_of_run(teacher.config, sets.shards[BANK], aux_set)
    except UserError as error:
        tell(f"the report does not show what the network saw in training: {error}")
        return []
