"""The steps of `python eval/export.py`: compute the ONNX file of a detector, check and write it.

The file is written only if onnxruntime gives the calibration images the same scores as torch and
DALI.
"""

from __future__ import annotations

import dataclasses
import sys
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from eval.audits.sample_sizes import check_calibration, sets_of_equal_images, sizes_that_say_little
from eval.decisions.conformal import Calibration, check_fpr
from eval.detector import Detector
from eval.ensemble.ensemble import Ensemble
from eval.exported import FORMAT_VERSION, Header, Model
from eval.intervals import Interval
from eval.metrics import auroc, auroc_interval
from eval.onnx_export.bank_compression import compressed_bank
from eval.onnx_export.config import ExportConfig
from eval.onnx_export.graph import PixelsToScore, to_onnx, with_metadata
from eval.results.collect import provenance_of
from eval.scores.eq6 import Eq6
from eval.sets.leakage import check_overlap
from eval.sets.opening import TEST, EvalSets, open_sets
from shards.disk.publish import write_new_file
from shards.errors import UserError
from shards.reader import ShardSet

TOLERANCE = 1e-4
"""Largest allowed difference between the scores of torch with DALI and the scores of onnxruntime.
"""
MOST_BYTES = 2**31 - 2**26
"""Largest size in bytes of the weights and the bank together: the limit of protobuf, minus room for
the graph and the metadata."""


def write_detector_file(config: ExportConfig) -> None:
    """Compute the ONNX file that the options ask for, check it and write it.

    Raises:
        UserError: a set or the run is wrong, the bank is too large or too small, or the scores of
            onnxruntime differ from the scores of torch and DALI. Nothing is written then.
    """
    centres = config.centres()
    _warn_of_sizes(config)
    detector = Detector.of(config.detector)
    check_fpr(config.fpr, len(detector.calibration_scores))
    overlap = _overlap(config, detector)

    ensemble = _compressed(detector, centres) if centres else detector.ensemble
    network = PixelsToScore(ensemble, detector.rule.size_px)
    _check_size(config, network)
    aurocs = _aurocs(config, detector, ensemble)
    for name, (full, kept) in aurocs.items():
        value, low, high = (100 * rate for rate in dataclasses.astuple(full))
        change = f", compressed {100 * kept:.2f} ({100 * kept - value:+.2f})" if centres else ""
        print(f"{name}: AUROC {value:.2f} % (95 % interval {low:.2f} to {high:.2f}){change}")

    model = to_onnx(network, detector.rule)
    scores = _checked_scores(config, detector, ensemble, model.SerializeToString())
    provenance = detector.provenance.to_json()
    centres_kept = _centres_of(ensemble) if centres else len(detector.bank)
    keys = [member.key for member in ensemble.weighing]
    members = f"{len(keys)} members" if len(keys) > 1 else f"the score is {keys[0]}"
    header = Header(
        format_version=FORMAT_VERSION,
        fpr=config.fpr,
        threshold=Calibration(scores).threshold(config.fpr),
        calibration_scores=np.sort(scores).tolist(),
        **dataclasses.asdict(detector.rule),
        tau=config.tau,
        bank={
            "features": len(detector.bank),
            "centres": centres_kept,
            "auroc": {
                name: {"full": full.value, "kept": kept} for name, (full, kept) in aurocs.items()
            },
            "overlap": overlap,
        },
        checkpoint=provenance["checkpoint"],
        manifests=provenance["manifests"],
        members=keys,
    )
    content = with_metadata(model, header.to_metadata())
    write_new_file(config.out, [content])
    print(
        f"{config.out}: {len(content) / 1e6:.1f} MB, {centres_kept:,} of the bank's "
        f"{len(detector.bank):,} features; the score is {config.score} ({members})"
    )


def _warn_of_sizes(config: ExportConfig) -> None:
    """Print a warning if there are too few images for reliable numbers.

    Raises:
        UserError: there are too few calibration images for the false-positive rate.
    """
    lines = check_calibration(config.calibration, config.fpr, config.score)
    if config.ood:
        with ExitStack() as stack:
            sets = _opened(config, stack)
            hopeless, little = sizes_that_say_little(sets.counts, sets_of_equal_images(sets))
            lines += [*hopeless, *little]
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def _overlap(config: ExportConfig, detector: Detector) -> dict[str, int]:
    """Return the numbers of images that sets share, for the header.

    Raises:
        UserError: sets share images, and --allow-overlap is not set.
    """
    if not config.ood:
        return detector.provenance.overlap  # of the bank and the calibration set
    with ExitStack() as stack:
        sets = _opened(config, stack)
        overlap = check_overlap(sets, detector.teacher, allow_overlap=config.allow_overlap)
        return provenance_of(sets, detector.teacher, overlap).overlap


def _opened(config: ExportConfig, stack: ExitStack) -> EvalSets:
    in_dist = config.in_dist_train, config.calibration
    return open_sets(*in_dist, config.ood, stack, allow_overlap=config.allow_overlap)


def _check_size(config: ExportConfig, network: PixelsToScore) -> None:
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    if size > MOST_BYTES:
        raise UserError(
            f"--bank is {config.bank}: network and bank are {size / 1e9:.2f} GB, and an ONNX file "
            f"takes {MOST_BYTES / 1e9:.2f} at most; keep a smaller number of centres by --bank N"
        )


def _compressed(detector: Detector, centres: int) -> Ensemble:
    """Return the detector's ensemble, which is Eq. 6 alone, with a bank of at most N centres."""
    (member,) = detector.ensemble.members
    (part,) = member.parts
    bank = compressed_bank(detector.bank, centres)
    eq6 = Eq6(bank.centres, detector.tau, bank.weights)
    member = dataclasses.replace(member, parts=(dataclasses.replace(part, score=eq6),))
    return dataclasses.replace(detector.ensemble, members=(member,))


def _centres_of(ensemble: Ensemble) -> int:
    (member,) = ensemble.members
    score = member.parts[0].score
    assert isinstance(score, Eq6)
    return score.bank.shape[1]


def _aurocs(
    config: ExportConfig, detector: Detector, ensemble: Ensemble
) -> dict[str, tuple[Interval, float]]:
    """Compute the AUROC of each OOD set against the calibration set.

    Returns:
        OOD set -> AUROC with the full bank, and AUROC with `ensemble`.
    """
    found = {}
    with ExitStack() as stack:
        sets = _opened(config, stack)
        of_calibration = _scores(ensemble, sets.shards[TEST])[detector.calibration_ids]
        for name, shards in sets.ood.items():
            full, kept = _scores(detector.ensemble, shards), _scores(ensemble, shards)
            found[name] = (
                auroc_interval(detector.calibration_scores, full),
                auroc(of_calibration, kept),
            )
    return found


def _scores(ensemble: Ensemble, shards: ShardSet) -> NDArray[np.float64]:
    """Return the scores of a shard set, float64 [N]."""
    return ensemble.terms(lambda source: source.network.of_shards(shards)).sum(1)


def _checked_scores(
    config: ExportConfig, detector: Detector, ensemble: Ensemble, model: bytes
) -> NDArray[np.float32]:
    """Return the scores that onnxruntime computes for the calibration images.

    Returns:
        float32 [n], in the order of the calibration ids.

    Raises:
        UserError: a score differs from the score of torch and DALI.
    """
    runtime = Model(model)
    parts = []
    with ShardSet.open(config.calibration) as shards:
        expected = _scores(ensemble, shards)[detector.calibration_ids]
        for first in range(0, len(detector.calibration_ids), config.batch):
            ids = detector.calibration_ids[first : first + config.batch]
            parts.append(runtime.score(shards.read(ids))[0])
    scores = np.concatenate(parts)
    difference = np.abs(scores - expected)
    worst = int(np.argmax(difference))
    if not difference[worst] <= TOLERANCE:
        raise UserError(
            f"{config.out}: not written: onnxruntime gives calibration image "
            f"{detector.calibration_ids[worst]} the score {scores[worst]:.6f}, expected "
            f"{expected[worst]:.6f}"
        )
    print(f"scores of {len(scores):,} images differ by {difference[worst]:.1e} at most")
    return scores
