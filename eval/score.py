"""Score a training run: AUROC of in-distribution test images against OOD sets, or one's own images.

    python eval/score.py RUN --in-dist-train DIR --in-dist-test DIR --ood DIR [DIR ...] --out DIR
    python eval/score.py RUN --in-dist-train DIR --in-dist-test DIR --images FOLDER --out DIR

The first writes results.json, tables, pictures, report.html and scores/<set>.csv, the second
scores.csv with p-values and decisions (see `eval.config` for options). Under torchrun, images and
bank are shared out among the ranks.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a script, this folder is first on sys.path; the repository's root must stand there instead.
here = Path(__file__).absolute().parent
sys.path[:] = [str(here.parent)] + [p for p in sys.path if p != str(here)]

import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from rich.console import Console

from eval.config import ScoreConfig
from eval.contents import refuse, shared_images
from eval.details import probes
from eval.detector import CACHE_FOLDER
from eval.embed import over_ranks
from eval.feature_cache import FeatureCache
from eval.figures import save_histogram, save_roc
from eval.networks import PIXEL, TEACHER, all_features
from eval.own_images import score_images
from eval.publish import (
    HISTOGRAM_FILE,
    REPORT_FILE,
    RESULTS_FILE,
    ROC_FILE,
    SCORES_FOLDER,
    check_replaceable,
    complete_folder,
)
from eval.report import write_report
from eval.report_data import report_data
from eval.results import Method, collect, grouped, settings, write_scores
from eval.scores import HEADLINE, all_scores
from eval.sets import BANK, TEST, is_trained_on_bank, open_sets
from eval.shortcuts import audit
from eval.table import sheet_of
from eval.table_formats import print_sheet, write_sheet
from shards import cli
from train.checkpoint import load_teacher
from train.world import start_world, stop_world

STALL_S = 600.0
"""How long ranks wait for each other."""


def main(argv: Sequence[str] | None = None) -> None:
    """Score what the command names and write the output folder.

    Raises:
        UserError: an option, a set, the run or the output folder is not as it must be; nothing
            is written then.
    """
    config = cli.parse(ScoreConfig, argv)
    config.check()
    check_replaceable(config.out)
    command = sys.argv[1:] if argv is None else list(argv)
    if config.images is not None:
        score_images(config, command)
    else:
        score_sets(config, command)


def score_sets(config: ScoreConfig, command: Sequence[str]) -> None:
    """Score the sets by every network that is asked for, and write the output folder.

    Raises:
        UserError: see `main`.
    """
    world = start_world(config.device, STALL_S)
    progress = Console(stderr=True, highlight=False, quiet=not world.is_main)
    with ExitStack() as stack:
        stack.callback(stop_world)

        # ------------------------------------------------------------- sets and networks
        sets = open_sets(config.in_dist_train, config.in_dist_test, config.ood, stack)
        groups = grouped(config.near, sets)
        overlap = shared_images(sets.named)
        if not config.allow_overlap:
            refuse(overlap)
        teacher = load_teacher(config.run, world.device) if config.run else None
        if teacher is not None:
            is_trained_on_bank(sets, teacher.manifests)  # refuses a set that it was trained on
        cache = FeatureCache(config.cache or (config.run and config.run / CACHE_FOLDER))

        # ------------------------------------------------------------- features and scores
        methods: dict[str, Method] = {}
        for network in all_features(config, teacher, world.device):
            count = sum(map(len, sets.named.values()))
            progress.print(f"{network.label}: features and scores of {count:,} images", style="dim")
            features = {}
            for name, shards in sets.named.items():
                key = network.depends_on and {**network.depends_on, "set": shards.manifest.sha256}
                make = partial(network.of, name, shards)
                features[name] = cache.get(
                    key, partial(over_ranks, len(shards), world, make), world
                )
            scores = all_scores(
                features,
                config.tau,
                config.k,
                world,
                network.label,
                has_covariance=network.key != PIXEL,
                teacher=teacher if network.key == TEACHER else None,
            )
            methods[network.key] = Method(network.label, features[BANK].shape[1], scores)
        if not world.is_main:
            return
        headline = network.key  # the last: the teacher, if there is a run
        in_detail = methods[headline].scores[HEADLINE]

        # ------------------------------------------------------------- output
        results = collect(
            methods,
            sets,
            headline=headline,
            tau=config.tau,
            groups=groups,
            teacher=teacher,
            probes=probes(features, sets, in_detail[TEST], config.tau, teacher),
            shortcuts=audit(sets.test, sets.ood),
            overlap=overlap,
            settings=settings(config, world, teacher),
            command=command,
        )
        sheet = sheet_of(results)
        shown = report_data(results, in_detail, sets, features, config.run, teacher)
        with complete_folder(config.out) as folder:
            (folder / SCORES_FOLDER).mkdir()
            for name, shards in sets.scored.items():
                write_scores(folder / SCORES_FOLDER / f"{name}.csv", shards, in_detail[name])
            by_method = {m.label: m.scores[HEADLINE] for m in methods.values()}
            save_histogram(folder / HISTOGRAM_FILE, by_method)
            save_roc(folder / ROC_FILE, in_detail)
            write_sheet(folder, sheet)
            write_report(folder / REPORT_FILE, shown)
            (folder / RESULTS_FILE).write_text(json.dumps(results, indent=1) + "\n")
    print_sheet(sheet, Console())


if __name__ == "__main__":
    cli.run(main)
