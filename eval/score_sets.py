"""The steps of `python eval/score.py` with OOD sets: every network, every score, every table.

The sets are shard sets. If only feature files are given, the sets are their arrays, and all steps
that need images are left out.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from PIL import Image
from rich.text import Text
from torch import Tensor

from eval.audits.headline_probes import probes
from eval.audits.sample_sizes import check_neighbours, sets_of_equal_images, sizes_that_say_little
from eval.audits.shortcuts import audit
from eval.config import ENSEMBLE, EQ6, FeaturesConfig, SetsConfig, TablesConfig
from eval.ensemble.of_sets import score_with_ensemble
from eval.features.networks import PIXEL, TEACHER, Features, all_features
from eval.report.page import ReportData, write_report
from eval.report.page_data import report_data
from eval.results.collect import (
    Method,
    Scores,
    ensemble_facts,
    grouped,
    network_metrics,
    provenance_of,
    settings,
    write_scores,
)
from eval.results.figures import save_histogram, save_roc
from eval.results.output_folder import (
    HISTOGRAM_FILE,
    OUTLIERS_FILE,
    REPORT_FILE,
    RESULTS_FILE,
    ROC_FILE,
    SCORES_FOLDER,
    complete_folder,
)
from eval.results.run_readme import note_sight
from eval.results.scoring import Scoring
from eval.results.table_formats import print_sheet, write_sheet
from eval.results.tables import Sheet, sheet_of
from eval.scores.all_scores import all_scores
from eval.sets.feature_file import FeatureFile, sets_of
from eval.sets.leakage import check_overlap
from eval.sets.opening import BANK, TEST, EvalSets, open_sets
from eval.versions import versions
from shards.errors import UserError, printable
from shards.terminal.console import Terminal
from shards.terminal.mistakes import did_you_mean
from train.teacher import LoadedTeacher, load_teacher
from train.world import World, start_world, stop_world

STALL_S = 600.0
"""Longest time in seconds that a rank waits for the other ranks."""


@dataclass(frozen=True)
class Headline:
    """The network of the headline: the run's teacher, or the last network if there is no run."""

    key: str
    """Key of the network in results.json."""
    features: Mapping[str, Tensor]
    """Set -> features of the set, float32 [N, d]. The bank is one of the sets."""
    scores: Mapping[str, Scores]
    """Key of a score -> scores of each set that was scored."""


def score_sets(config: SetsConfig | FeaturesConfig, command: Sequence[str]) -> None:
    """Score the sets with every network that the options ask for, and write the output folder.

    Args:
        config: options that were checked.
        command: arguments of the command line, for results.json.

    Raises:
        UserError: a set, a file, the run or the output folder is wrong. Nothing is written then.
    """
    world = start_world(config.device, STALL_S)
    stderr = Terminal(stderr=True, quiet=not world.is_main)

    def tell(line: str) -> None:
        stderr.print(Text(printable(line), style="dim"), soft_wrap=True)

    with ExitStack() as stack:
        stack.callback(stop_world)

        # ------------------------------------------------------------- sets and networks
        files = [FeatureFile.read(path, world.device) for path in config.features]
        if isinstance(config, FeaturesConfig):
            sets, run = sets_of(files), None
        else:
            in_dist, run = (config.in_dist_train, config.in_dist_test), config.run
            sets = open_sets(*in_dist, config.ood, stack, allow_overlap=config.allow_overlap)
        _check_equal_sets(sets, files, world)
        for file in files:
            file.check(sets.counts)
        groups = grouped(config.near, sets)
        teacher = load_teacher(run, world.device) if run else None
        if teacher is not None:
            # A run that is still training may write a newer checkpoint while the ranks load one.
            checkpoint = f"step {teacher.step}, {teacher.sha256}"
            world.check_equal(f"the newest checkpoint of {run}", checkpoint)
        lines = check_neighbours(config.k, sets.counts[BANK])
        equal = sets_of_equal_images(sets, files)
        for line in [*itertools.chain(*sizes_that_say_little(sets.counts, equal)), *lines]:
            tell(f"warning: {line}")
        overlap = check_overlap(sets, teacher, files, allow_overlap=config.allow_overlap)

        # ------------------------------------------------------------- features and scores
        networks: Iterable[Features] = files
        if isinstance(config, SetsConfig):
            networks = all_features(config, teacher, files, world)
        methods, headline = _scored(config, sets, networks, teacher, world, tell)
        score = _score_of_headline(config, headline)
        found = None
        if score == ENSEMBLE:
            assert isinstance(config, SetsConfig)
            tell(f"{ENSEMBLE}: synthetic outliers, members and weights")
            found = score_with_ensemble(config, sets, files, teacher, world, tell)
        if not world.is_main:
            return

        # ------------------------------------------------------------- output
        scoring = Scoring(
            headline=headline.key,
            score=score,
            tau=config.tau,
            counts=dict(sets.counts),
            groups={group: tuple(names) for group, names in groups.items()},
            methods={key: network_metrics(method, groups) for key, method in methods.items()},
            ensemble=ensemble_facts(found, groups) if found else None,
            probes=probes(
                headline.features, sets, headline.scores[EQ6][TEST], config.tau, teacher, tell
            ),
            shortcuts=audit(sets.shards[TEST], sets.ood) if sets.shards else None,
            provenance=provenance_of(sets, teacher, overlap),
            equal_images=tuple(equal),
            settings=settings(config, run, world, teacher),
            versions=versions(),
            command=tuple(command),
        )
        scores = found.scores if found else headline.scores[score]
        test_ids = found.evaluation_ids if found else None
        shown = report_data(scoring, scores, test_ids, sets, headline.features, run, teacher, tell)
        sheet = sheet_of(scoring)
        outliers = found.ensemble.sheet() if found else None
        _write(config, scoring, methods, sets, sheet, shown, outliers)
        if found and teacher and isinstance(config, SetsConfig) and config.run:
            note_sight(
                config.run,
                found.ensemble.of_sum,
                score,
                teacher.step,
                bank=config.in_dist_train,
                test=config.in_dist_test,
            )
    print_sheet(sheet, Terminal())


def _scored(
    config: TablesConfig,
    sets: EvalSets,
    networks: Iterable[Features],
    teacher: LoadedTeacher | None,
    world: World,
    tell: Callable[[str], None],
) -> tuple[dict[str, Method], Headline]:
    """Compute the features and scores of every network.

    Returns:
        Key of each network -> its scores, and the network of the headline.
    """
    methods: dict[str, Method] = {}
    headline: Headline | None = None
    count = sum(sets.counts.values())
    for network in networks:
        tell(f"{network.label}: features and scores of {count:,} images")
        features = network.of_sets(sets)
        scores = all_scores(
            features,
            config.tau,
            config.k,
            world,
            network.label,
            has_covariance=network.key != PIXEL,
            teacher=teacher if network.key == TEACHER else None,
            tell=tell,
        )
        methods[network.key] = Method(network.label, features[BANK].shape[1], scores)
        # Only the features of the last network are kept. The teacher comes last.
        headline = Headline(network.key, features, scores)
    assert headline is not None, "the options ask for no network"
    return methods, headline


def _score_of_headline(config: TablesConfig, headline: Headline) -> str:
    """Return the key of the headline's score.

    If there are only features, there is no ensemble, and Eq. 6 takes its place.

    Raises:
        UserError: the network of the headline has no score of the name --score.
    """
    if config.score == ENSEMBLE:
        return ENSEMBLE if isinstance(config, SetsConfig) else EQ6
    if config.score not in headline.scores:
        known = [ENSEMBLE, *headline.scores]
        raise UserError(
            f"--score is {config.score}, expected one of {', '.join(known)}"
            f"{did_you_mean(config.score, known)}"
        )
    return config.score


def _write(
    config: TablesConfig,
    scoring: Scoring,
    methods: Mapping[str, Method],
    sets: EvalSets,
    sheet: Sheet,
    shown: ReportData,
    outliers: Image.Image | None,
) -> None:
    """Write all files of the output folder."""
    with complete_folder(config.out) as folder:
        (folder / SCORES_FOLDER).mkdir()
        for name, of_set in shown.scores.items():
            path = folder / SCORES_FOLDER / f"{name}.csv"
            ids = shown.test_ids if name == TEST else None
            write_scores(path, of_set, sets.shards.get(name), ids)
        by_method = {m.label: m.scores[EQ6] for m in methods.values()}
        if scoring.ensemble:
            by_method[ENSEMBLE] = shown.scores
        save_histogram(folder / HISTOGRAM_FILE, by_method)
        save_roc(folder / ROC_FILE, shown.scores)
        if outliers:
            outliers.save(folder / OUTLIERS_FILE)
        write_sheet(folder, sheet)
        write_report(folder / REPORT_FILE, shown)
        (folder / RESULTS_FILE).write_text(json.dumps(scoring.to_json(), indent=1) + "\n")


def _check_equal_sets(sets: EvalSets, files: Sequence[FeatureFile], world: World) -> None:
    """Check that all ranks read the same images and features. Every rank must call this function.

    Raises:
        UserError: one rank reads others. It is raised on every rank, and names the set or the file.
    """
    if world.world_size == 1:
        return  # computing digests of files takes a while
    for name, shards in sets.shards.items():
        world.check_equal(f"{name}: {shards.directory}", shards.manifest.sha256)
    for file in files:
        world.check_equal(f"--features {file.path}", file.digest())
