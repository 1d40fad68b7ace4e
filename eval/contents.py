"""Images that the sets of a scoring share: a set that holds images of the bank is easy to score.

Compared are pixels, by digest: what was stored in another way is for `python -m shards.overlap`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dali_pipes.eval_loader import ImageSource
from shards.cli import UserError

CHUNK = 4096
IDS_NAMED = 5


@dataclass(frozen=True)
class Shared:
    """Equal images of two sets."""

    one: str
    other: str
    ids: np.ndarray
    """The samples of `other` that `one` has too: int64, ascending."""


def shared_images(sets: Mapping[str, ImageSource]) -> list[Shared]:
    """What the bank shares with the others, and the in-distribution test set with the OOD sets.

    Args:
        sets: the bank first, then the in-distribution test set, then the OOD sets.
    """
    digests = {name: _digests(images) for name, images in sets.items()}
    names = list(sets)
    found = [
        Shared(one, other, np.flatnonzero(np.isin(digests[other], digests[one])))
        for number, one in enumerate(names[:2])
        for other in names[number + 1 :]
    ]
    return [shared for shared in found if len(shared.ids)]


def refuse(found: list[Shared]) -> None:
    """Refuse what is shared.

    Raises:
        UserError: names sets, counts and ids.
    """
    if not found:
        return
    texts = []
    for shared in found:
        ids = ", ".join(map(str, shared.ids[:IDS_NAMED]))
        more = ", ..." if len(shared.ids) > IDS_NAMED else ""
        what = f"{len(shared.ids)} of {shared.other} are in {shared.one} too"
        texts.append(f"{what} (ids {ids}{more})")
    raise UserError(
        f"sets share images: {'; '.join(texts)}; build them without (shards.build --exclude), or "
        "allow it with --allow-overlap, which is recorded"
    )


def _digests(images: ImageSource) -> np.ndarray:
    """16 bytes for each image, of its pixels and its size."""
    digests = []
    for first in range(0, len(images), CHUNK):
        pixels = images.read(np.arange(first, min(first + CHUNK, len(images))))
        size = repr(pixels.shape[1:]).encode()
        digests += [
            hashlib.blake2b(size + image.tobytes(), digest_size=16).digest() for image in pixels
        ]
    return np.array(digests, dtype="V16")
