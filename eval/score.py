"""Score a training run: AUROC of in-distribution test images against OOD sets.

    python eval/score.py RUN --in-dist-train DIR --in-dist-test DIR --ood DIR [DIR ...] --out DIR

Writes results.json, table.md, histogram.png and scores/<set>.csv (see `eval.config` for options).
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

import numpy as np
from rich.console import Console

from dali_pipes.eval_loader import EvalLoader
from eval.config import ScoreConfig
from eval.embed import embed, pixel_features
from eval.figures import save_histogram
from eval.publish import (
    HISTOGRAM_FILE,
    RESULTS_FILE,
    SCORES_FOLDER,
    TABLE_FILE,
    check_replaceable,
    complete_folder,
)
from eval.results import METHODS, TEACHER, collect, write_scores
from eval.scorer import score
from eval.sets import BANK, is_trained_on_bank, open_sets
from eval.table import print_table, to_markdown
from shards import cli
from train.checkpoint import load_teacher
from train.model import untrained_backbone
from train.world import pick_device


def main(argv: Sequence[str] | None = None) -> None:
    """Score the sets that the command names and write the output folder.

    Raises:
        UserError: an option, a set, the run or the output folder is not as it must be; nothing
            is written then.
    """
    config = cli.parse(ScoreConfig, argv)
    config.check()
    device = pick_device(config.device)
    check_replaceable(config.out)
    progress = Console(stderr=True, highlight=False)

    with ExitStack() as stack:
        # ------------------------------------------------------------- sets and networks
        sets = open_sets(config.in_dist_train, config.in_dist_test, config.ood, stack)
        teacher = load_teacher(config.run, device)
        bank_is_training_set = is_trained_on_bank(sets, teacher.manifests)
        crop_px = teacher.config.views.global_px

        def network_features(backbone, shards):
            loader = EvalLoader(shards, crop_px, config.batch, device, config.num_threads)
            return embed(backbone, loader, device, config.precision, samples=len(shards))

        features_of = {TEACHER: lambda shards: network_features(teacher.backbone, shards)}
        if config.baselines:
            untrained = untrained_backbone(teacher.config, device)
            features_of["untrained"] = lambda shards: network_features(untrained, shards)
            features_of["pixel"] = lambda shards: pixel_features(shards).to(device)

        # ------------------------------------------------------------- features and scores
        scores: dict[str, dict[str, np.ndarray]] = {}
        for method, features in features_of.items():
            label = METHODS[method]
            count = sum(map(len, sets.named.values()))
            progress.print(f"{label}: features and scores of {count:,} images", style="dim")
            bank = features(sets.bank)
            scores[method] = {}
            for name, shards in sets.scored.items():
                names = (f"{name} ({label})", f"{BANK} ({label})")
                tested = score(features(shards), bank, config.tau, names=names)
                scores[method][name] = tested.cpu().numpy()

        # ------------------------------------------------------------- output
        results = collect(
            scores,
            sets,
            tau=config.tau,
            checkpoint={"step": teacher.step, "sha256": teacher.sha256},
            settings={
                "precision": config.precision,
                "crop_px": crop_px,
                "batch": config.batch,
                "device": device.type,
            },
            bank_is_training_set=bank_is_training_set,
        )
        with complete_folder(config.out) as folder:
            (folder / SCORES_FOLDER).mkdir()
            for name, shards in sets.scored.items():
                csv_path = folder / SCORES_FOLDER / f"{name}.csv"
                write_scores(csv_path, shards, scores[TEACHER][name])
            save_histogram(folder / HISTOGRAM_FILE, scores)
            (folder / TABLE_FILE).write_text(to_markdown(results), encoding="utf-8")
            (folder / RESULTS_FILE).write_text(json.dumps(results, indent=1) + "\n")
    print_table(results, Console())


if __name__ == "__main__":
    cli.run(main)
