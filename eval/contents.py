"""What the sets of a scoring share with each other and with the training: it is easy to score.

Compared are pixels, by digest; of sets that were cut from one source also the names in it; and
features where there is nothing else. What was stored in another way, of another source, is for
`python -m shards.overlap`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dali_pipes.eval_loader import ImageSource
from eval.feature_file import FeatureFile
from eval.sets import EvalSets, share_shards, share_source
from shards.cli import UserError, few
from shards.reader import ShardSet
from train.checkpoint import LoadedTeacher

CHUNK = 4096
Pair = tuple[str, str]
"""Names of two sets."""


@dataclass(frozen=True)
class Shared:
    """Equal images of two sets."""

    one: str
    """A set, or in words what the run was trained on."""
    other: str
    ids: np.ndarray
    """The samples of `other` that `one` has too: int64, ascending."""


def check_overlap(
    sets: EvalSets,
    teacher: LoadedTeacher | None,
    files: Sequence[FeatureFile] = (),
    *,
    allow_overlap: bool,
) -> list[Shared]:
    """What is shared, each pair of sets once; it is refused unless it is allowed.

    Args:
        sets: the sets, opened with the same `allow_overlap`.
        teacher: of the run, if a run is scored.
        files: of which the sets are, where these have no images.
        allow_overlap: whether what is found is returned rather than refused.

    Raises:
        UserError: names sets, counts and ids.
    """
    found = [] if teacher is None else _trained_on(sets, teacher, allow_overlap)
    if sets.shards:
        images = _of_shards(sets.shards)
        if not allow_overlap:
            refuse(images)
        return found + images
    of_files = []
    for file in files:
        rows = shared_rows({name: file.rows(name) for name in sets.counts})
        if not allow_overlap:
            refuse(rows, f"rows of {file.path}", "take them out of the file")
        of_files += rows
    return _each_pair_once(of_files)


def shared_images(sets: Mapping[str, ImageSource], also: Iterable[Pair] = ()) -> list[Shared]:
    """What the bank shares with the others, and the in-distribution test set with the OOD sets.

    Args:
        sets: the bank first, then the in-distribution test set, then the OOD sets.
        also: further pairs to compare.
    """
    digests = {name: _digests(_chunks_of(images)) for name, images in sets.items()}
    return _equal(digests, [*_compared(sets), *also])


def shared_rows(features: Mapping[str, NDArray[np.float32]]) -> list[Shared]:
    """The same of features: rows [N, d] of each set that are equal, number by number."""
    return _equal({name: _digests([rows]) for name, rows in features.items()}, _compared(features))


def refuse(
    found: Sequence[Shared],
    what: str = "images",
    mend: str = "build them without (shards.build --exclude)",
) -> None:
    """Refuse what is shared.

    Raises:
        UserError: names sets, counts and ids, and what to do.
    """
    if not found:
        return
    texts = []
    for shared in found:
        count = f"{len(shared.ids)} of {shared.other} are in {shared.one} too"
        texts.append(f"{count} (ids {few(shared.ids.tolist())})")
    raise UserError(
        f"sets share {what}: {'; '.join(texts)}; {mend}, or allow it with --allow-overlap, which "
        "is recorded"
    )


def _trained_on(sets: EvalSets, teacher: LoadedTeacher, allow_overlap: bool) -> list[Shared]:
    """The sets whose images a teacher was trained on; as the bank they are welcome."""
    folders = {"in-dist": teacher.config.in_dist, "aux": teacher.config.aux}
    words = {"in-dist": "the set", "aux": "the auxiliary set"}
    found = []
    for name, stream in itertools.product(sets.scored, words):
        shards, what = sets.shards[name], f"{words[stream]} that the run was trained on"
        if shards.manifest.sha256 != teacher.manifests.get(stream):
            continue
        if not allow_overlap:
            raise UserError(
                f"{name}: {shards.directory} is {what}, {folders[stream]}; allow it with "
                "--allow-overlap, which is recorded"
            )
        found.append(Shared(what, name, np.arange(len(shards))))
    return found


def _of_shards(sets: Mapping[str, ShardSet]) -> list[Shared]:
    of_one_source, copies = [], []
    for one, other in itertools.combinations(sets, 2):
        manifests = sets[one].manifest, sets[other].manifest
        if share_source(*manifests):
            of_one_source.append((one, other))
        elif share_shards(*manifests):
            copies.append((one, other))
    by_pixels = shared_images(sets, also=[*of_one_source, *copies])
    names = {name: _digests_of_names(sets[name]) for name in {*itertools.chain(*of_one_source)}}
    return _each_pair_once([*by_pixels, *_equal(names, of_one_source)])


def _compared(names: Iterable[str]) -> list[Pair]:
    """The bank, the first, with all others, the test set, the second, with all that follow."""
    names = list(names)
    return [(one, other) for i, one in enumerate(names[:2]) for other in names[i + 1 :]]


def _equal(digests: Mapping[str, np.ndarray], pairs: Iterable[Pair]) -> list[Shared]:
    found = [
        Shared(one, other, np.flatnonzero(np.isin(digests[other], digests[one])))
        for one, other in dict.fromkeys(pairs)
    ]
    return [shared for shared in found if len(shared.ids)]


def _each_pair_once(found: Iterable[Shared]) -> list[Shared]:
    ids: dict[Pair, np.ndarray] = {}
    for shared in found:
        pair = shared.one, shared.other
        ids[pair] = np.union1d(ids.get(pair, shared.ids), shared.ids)
    return [Shared(*pair, its) for pair, its in ids.items()]


def _chunks_of(images: ImageSource) -> Iterable[np.ndarray]:
    for first in range(0, len(images), CHUNK):
        yield images.read(np.arange(first, min(first + CHUNK, len(images))))


def _digests(chunks: Iterable[np.ndarray]) -> np.ndarray:
    """16 bytes for each image, or row of numbers, of its values and its shape."""
    digests = []
    for values in chunks:
        shape = repr(values.shape[1:]).encode()
        digests += [_digest(shape + one.tobytes()) for one in values]
    return np.array(digests, dtype="V16")


def _digests_of_names(shards: ShardSet) -> np.ndarray:
    names = (name.encode("utf-8", "surrogatepass") for name in shards.names())
    return np.array([_digest(name) for name in names], dtype="V16")


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
