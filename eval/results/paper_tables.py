"""The numbers of the paper, for comparison with the numbers measured here.

The paper is Rafiee et al., Self-Supervised Anomaly Detection by Self-Distillation and Negative
Sampling (ICANN 2022). The numbers are from its Tables 1 and 2: AUROC in % on eight OOD sets, which
are named as in the protocol `icann22`. In the paper, the methods DTI and Rot. DTI have identical
numbers for CIFAR-100 and for SVHN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

PROTOCOL = "icann22"
Row = tuple[float | None, ...]
"""AUROC in %, one number for each set of `sets_of`. None if the paper has no number."""

_OTHER_CIFAR = {"cifar10": "cifar100", "cifar100": "cifar10"}
_FAR = ("svhn", "imagenet30", "tiny-imagenet", "lsun", "stl10", "places365", "texture")

OURS: Mapping[str, Mapping[str, Row]] = {
    "cifar10": {
        "DINO": (90.29, 99.38, 88.81, 91.07, 92.20, 66.50, 91.28, 96.21),
        "ImgN": (90.46, 99.50, 89.96, 94.14, 93.41, 77.65, 93.12, 95.01),
        "Rot. ImgN": (92.51, 99.69, 94.16, 96.28, 98.08, 77.29, 97.14, 99.16),
        "Rot.360 ImgN": (88.62, 99.42, 88.95, 91.60, 93.24, 72.41, 92.58, 93.93),
        "DTI": (93.77, 99.86, 93.39, 94.53, 98.56, 72.01, 97.03, 97.55),
        "Perm-16 ImgN": (88.32, 99.59, 89.17, 89.72, 94.58, 69.22, 92.77, 93.38),
        "Perm-4 ImgN": (89.57, 99.13, 84.71, 91.27, 89.32, 68.81, 87.63, 89.86),
        "Rot. DTI": (93.77, 99.86, 96.04, 95.64, 99.12, 81.49, 98.12, 95.11),
        "Pix. Perm.": (87.67, 99.62, 87.46, 89.39, 93.33, 68.55, 91.89, 93.08),
        "Rot. In-Dist.": (93.96, 99.92, 91.69, 94.27, 94.93, 69.11, 93.53, 98.29),
        "Combined": (94.20, 99.92, 93.40, 95.02, 97.52, 74.34, 96.01, 98.69),
    },
    "cifar100": {
        "Rot. ImgN": (69.96, 96.00, 84.82, 81.41, 85.03, 79.96, 81.67, 80.65),
        "Combined": (67.63, 97.17, 75.36, 79.75, 74.55, 71.70, 72.79, 77.33),
    },
}
"""In-distribution set -> name of the negatives in the paper -> row. The rows are from Table 2; the
row Combined is from Table 1."""

BASELINES: Mapping[str, Mapping[str, Row]] = {
    "cifar10": {
        "Geometric": (91.91, 97.96, None, 92.06, 93.57, None, 92.57, 96.25),
        "SSD": (90.63, 99.62, 90.20, 92.25, 96.51, 70.28, 95.21, 97.61),
        "CSI": (89.20, 99.80, 87.92, 92.44, 91.60, 64.25, 90.18, 98.96),
        "MTL": (93.24, 99.92, None, 92.99, 95.03, None, 93.72, None),
    },
    "cifar100": {
        "Geometric": (74.73, 83.62, None, 77.56, 71.86, None, 74.57, 82.39),
        "SSD": (69.60, 94.90, 75.53, 79.52, 79.50, 72.76, 79.60, 82.90),
        "CSI": (58.87, 96.44, 71.82, 79.28, 61.83, 64.26, 65.48, 87.47),
        "MTL": (79.25, 87.11, None, 80.66, 74.32, None, 77.87, None),
    },
}
"""In-distribution set -> method -> row of Table 1. The methods Geometric and MTL use labels."""

_WITH_IMAGENET = {
    "aux": "ImgN",
    "rot": "Rot. ImgN",
    # The paper's text rotates in steps of 90 degrees. Its public code rotates by any angle.
    "rot90x4": "Rot.360 ImgN",
    "rot-any": "Rot.360 ImgN",
    "rot-any-early": "Rot.360 ImgN",
    "perm-16": "Perm-16 ImgN",
    "perm-4": "Perm-4 ImgN",
    "pixperm": "Pix. Perm.",
    "combined": "Combined",
    "rot-in+rot": "Combined",
    "rot+rot-in": "Combined",
}
_WITH_DTI = {"aux": "DTI", "rot": "Rot. DTI"}
_WITHOUT_AUX = {"none": "DINO", "rot-in": "Rot. In-Dist."}


def name_of(negatives: str, aux: str = "imagenet") -> str | None:
    """Return the paper's name of a strategy of negatives. None if the paper does not have it.

    Args:
        negatives: name of the strategy in a run's configuration (see `dali_pipes.negatives`).
        aux: name of the set of auxiliary images: "imagenet", "dti", or another name.
    """
    with_aux = {"imagenet": _WITH_IMAGENET, "dti": _WITH_DTI}.get(data_set(aux), {})
    return {**with_aux, **_WITHOUT_AUX}.get(negatives)


def cell(in_dist: str, row: Row | None, ood: str) -> float | None:
    """Return the number for one OOD set in a row of the paper, in %.

    Args:
        in_dist: name of the in-distribution set, for example cifar10 or cifar10-test.
        row: a row of `OURS` or `BASELINES`. None if the paper has no row.
        ood: name of the OOD set in the protocol.

    Returns:
        The AUROC in %. None if the paper has no number.
    """
    if row is None:
        return None
    return dict(zip(sets_of(in_dist), row, strict=True)).get(data_set(ood))


def sets_of(in_dist: str) -> tuple[str, ...]:
    """Return the names of the OOD sets in the paper's tables, in the order of the columns."""
    return _OTHER_CIFAR[data_set(in_dist)], *_FAR


def groups_of(protocol: str, in_dist: str, ood: Sequence[str]) -> dict[str, list[str]]:
    """Divide OOD sets into near and far.

    CIFAR-10 and CIFAR-100 are near to each other (section 1 of the paper). All other sets are far.
    The sets of other protocols are not divided.

    Args:
        protocol: name of the protocol.
        in_dist: name of the in-distribution set.
        ood: names of the OOD sets.

    Returns:
        `near` and `far` -> names. Empty if there would be no near or no far set.
    """
    other = _OTHER_CIFAR.get(data_set(in_dist))
    near = [name for name in ood if data_set(name) == other]
    far = [name for name in ood if name not in near]
    if protocol not in (PROTOCOL, "csi20", "oe19") or not (near and far):
        return {}
    return {"near": near, "far": far}


def data_set(name: str) -> str:
    """Return the name of a set without its split: `cifar10` for `cifar10-test`."""
    for split in ("-train", "-test", "-val"):
        name = name.removesuffix(split)
    return name
