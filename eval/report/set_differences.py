"""Warnings about OOD sets whose images were made in another way than those of the test set."""

from __future__ import annotations

from eval.results.scoring import Scoring, SetFacts
from eval.sets.opening import TEST
from shards.errors import few

NAMED_SETS = 3
"""Largest number of names in a line."""


def stored_otherwise(scoring: Scoring) -> list[str]:
    """Return warnings about OOD sets that were resized or stored otherwise than the test set."""
    manifests = scoring.provenance.manifests
    if not manifests:
        return []
    own = _stored(manifests[TEST])
    others: dict[str, list[str]] = {}
    for name in scoring.ood_names:
        others.setdefault(_stored(manifests[name]), []).append(name)
    return [
        f"Images of {few(names, NAMED_SETS)} are {how}, in-distribution test images {own}: that "
        "alone may tell them apart"
        for how, names in others.items()
        if how != own
    ]


def understood_otherwise(scoring: Scoring) -> list[str]:
    """Return warnings about OOD sets with another background or intensity than the test set."""
    manifests = scoring.provenance.manifests
    if not manifests:
        return []
    found = []
    for name in scoring.ood_names:
        own, its = manifests[TEST], manifests[name]
        # A set that was built from arrays of pixels has no background to compare.
        if own.background and its.background and own.background != its.background:
            found.append(
                _understood(
                    name, "background", "transparent images", its.background, own.background
                )
            )
        if own.intensity != its.intensity:
            found.append(
                _understood(name, "intensity", "more than 8 bits", its.intensity, own.intensity)
            )
    return found


def _understood(name: str, field: str, what: str, its: object, own: object) -> str:
    return (
        f"{name} was built with {field} {its or 'not given'} ({what}), the in-distribution test "
        f"set with {own or 'not given'}: that alone may tell them apart"
    )


def _stored(facts: SetFacts) -> str:
    """Return a text that says how images were resized, and if they were stored as JPEG.

    PNG and raw images are not named, because both keep the pixels unchanged.
    """
    resized = "not resized" if facts.resize == "none" else f"resized by {facts.resize}"
    return resized + (" and stored as JPEG" if facts.encoding == "jpg" else "")
