"""The steps of `python eval/score.py RUN --images FOLDER`: a decision on each file of a folder.

The command writes these files to the output folder:

    scores.csv        file, score, p-value and decision, in the order of the names
    unreadable.csv    the files that cannot be read, with the reasons
    outliers.png      contact sheet of the synthetic outliers on which the detector was tried
    results.json      counts, threshold, checkpoint, sets, settings and versions
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from eval.audits.sample_sizes import check_calibration
from eval.config import ImagesConfig
from eval.decisions.images import folder_images
from eval.decisions.verdicts import Verdicts, scores_csv, summary, unreadable_csv
from eval.detector import IMAGES, Detector
from eval.ensemble.sight import as_table, in_words, useless
from eval.results.ensemble_facts import EnsembleFacts
from eval.results.output_folder import (
    OUTLIERS_FILE,
    RESULTS_FILE,
    SCORES_FILE,
    UNREADABLE_FILE,
    complete_folder,
)
from eval.results.run_readme import note_sight
from eval.results.scoring import FORMAT_VERSION, HIGHER_IS
from eval.sets.opening import BANK, TEST
from eval.versions import versions
from shards.errors import UserError
from train.launch import read_launch


def score_images(config: ImagesConfig, command: Sequence[str]) -> None:
    """Score the files in `config.images`, and write the output folder.

    Args:
        config: options that were checked.
        command: arguments of the command line, for results.json.

    Raises:
        UserError: the folder, a set or the run is wrong, the calibration set is too small for the
            false-positive rate, or no file can be read. Nothing is written then.
    """
    if read_launch().world_size > 1:
        raise UserError("--images is for one process; start it without torchrun")
    for line in check_calibration(config.calibration, config.fpr, config.score):
        print(f"warning: {line}", file=sys.stderr)
    names, reads = folder_images(config.images)
    print(f"{config.run}: features of the bank and the calibration set", file=sys.stderr)
    detector = Detector.of(config)
    verdicts = detector.judge(reads, config.fpr, names)
    results = _results(config, detector, verdicts, command)
    with complete_folder(config.out) as folder:
        (folder / SCORES_FILE).write_bytes(scores_csv(names, verdicts))
        (folder / UNREADABLE_FILE).write_bytes(unreadable_csv(names, verdicts))
        detector.ensemble.sheet().save(folder / OUTLIERS_FILE)
        (folder / RESULTS_FILE).write_text(json.dumps(results, indent=1) + "\n")
    sight = detector.sight
    note_sight(
        config.run,
        sight,
        config.score,
        detector.teacher.step,
        bank=config.in_dist_train,
        test=config.calibration,
    )
    if warning := useless(sight):
        print(f"{warning}.")
    print(summary(names, verdicts, len(detector.calibration_scores), config.fpr))
    print(f"AUROC in % on synthetic outliers, made of {TEST} (higher is better):")
    print("\n".join([*as_table(sight), *(f"{line}." for line in in_words(sight))]))


def _results(
    config: ImagesConfig, detector: Detector, verdicts: Verdicts, command: Sequence[str]
) -> dict[str, Any]:
    calibrated_on = len(detector.calibration_scores)
    scored = len(verdicts.score) - len(verdicts.errors)
    return {
        "format_version": FORMAT_VERSION,
        "higher_is": HIGHER_IS,
        "tau": config.tau,
        "headline": detector.network.key,
        "score": config.score,
        "counts": {BANK: len(detector.bank), TEST: calibrated_on, IMAGES: scored},
        IMAGES: {
            "unreadable": len(verdicts.errors),
            "called_ood": int(verdicts.is_ood.sum()),
            "fpr": config.fpr,
            "threshold": detector.calibration.threshold(config.fpr),
            "rule": dataclasses.asdict(detector.rule),
        },
        "ensemble": dataclasses.asdict(EnsembleFacts.of(detector.ensemble, calibrated_on)),
        **detector.provenance.to_json(),
        "settings": {
            "device": detector.bank.device.type,
            "precision": config.precision,
            "batch": config.batch,
        },
        "versions": versions(),
        "command": list(command),
    }
