"""The notes below the tables of one scoring: sets, bank, checkpoint, probes."""

from __future__ import annotations

from eval.audits.headline_probes import Probes
from eval.audits.sample_sizes import sizes_that_say_little
from eval.results.scoring import Provenance, Scoring
from eval.sets.opening import ALL, BANK, MEAN, TEST


def notes(scoring: Scoring, *, has_paper_rows: bool) -> list[str]:
    """Return the notes to the tables: metrics, sets, bank, checkpoint, probes.

    Args:
        scoring: the scoring.
        has_paper_rows: True if the tables have rows with the numbers of the paper.
    """
    provenance = scoring.provenance
    is_other = provenance.checkpoint and not provenance.bank_is_training_set
    other = " (not those the run was trained on)" if is_other else ""
    step = f" Checkpoint: step {provenance.checkpoint.step:,}." if provenance.checkpoint else ""
    found = [
        *notes_on_sets(scoring),
        *notes_on_overlap(provenance),
        f"Bank: {scoring.counts[BANK]:,} in-distribution training images{other}; "
        f"tau {scoring.tau:g}.{step}",
    ]
    if has_paper_rows:
        found.append("The paper's means are over the same sets; its other rows are of Table 1.")
    found.append(f"{scoring.headline_network.label}: {'; '.join(_probe_texts(scoring.probes))}.")
    return found


def notes_on_sets(scoring: Scoring) -> list[str]:
    """Return the notes on sets that are too small, and on metrics, protocol, counts and groups."""
    counts, ood = scoring.counts, scoring.ood_names
    groups = [f" {group}: {', '.join(names)}." for group, names in scoring.groups.items()]
    hopeless, little = sizes_that_say_little(counts, scoring.equal_images)
    return [
        *(f"{line}." for line in [*hopeless, *little]),
        "OOD is the positive class, a higher score is more OOD; FPR95 is the share of "
        "in-distribution images above the threshold that at least 95 % of OOD images reach.",
        f"Protocol: {scoring.provenance.protocol}. "
        f"In-distribution test images: {counts[TEST]:,}{_parts(scoring)}. "
        f"OOD images: {', '.join(f'{name} {counts[name]:,}' for name in ood)}; "
        f"{ALL} {sum(counts[name] for name in ood):,}.",
        f"{MEAN} is over the sets, {ALL} pools their images.{''.join(groups)}",
        "95 % intervals cover the choice of images only. Another training run (another seed) may "
        "change the numbers by more.",
    ]


def _parts(scoring: Scoring) -> str:
    """Return how the test images were divided, if they were."""
    facts = scoring.ensemble
    if facts is None:
        return ""
    return (
        f", of which {facts.tuning_images:,} tuned the ensemble without labels; the AUROC of the "
        f"ensemble and of its members rests on the other {facts.evaluation_images:,}"
    )


def notes_on_overlap(provenance: Provenance) -> list[str]:
    """Return a note on the images that sets share with each other or with the training set.

    The list is empty if no images are shared.
    """
    shared = [f"{count:,} in both {sets}" for sets, count in provenance.overlap.items()]
    return [f"Images that sets share (--allow-overlap): {'; '.join(shared)}."] if shared else []


def _probe_texts(probes: Probes) -> list[str]:
    texts = []
    if probes.knn_accuracy:
        each = [f"{name} {100 * value:.2f} %" for name, value in probes.knn_accuracy.items()]
        texts.append(f"k-NN accuracy {', '.join(each)}")
    if probes.linear_probe is not None:
        texts.append(f"linear probe {100 * probes.linear_probe:.2f} %")
    if probes.occupied is not None:
        texts.append(f"occupied soft classes {probes.occupied.count:,} of {probes.occupied.of:,}")
    rate = probes.sensitivity
    texts.append(
        f"AUROC of train against test {100 * rate.value:.2f} % "
        f"({100 * rate.low:.2f}\N{EN DASH}{100 * rate.high:.2f})"
    )
    return texts
