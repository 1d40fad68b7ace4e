"""Equal images of several shard sets.

If test images are also in the training set, the scores on them are too good. So this file finds the
images that sets share, by digests of the pixels, and in sets from the same source also by names.
`python -m shards.overlap` finds images that were stored in another way.
"""

from __future__ import annotations

import hashlib
import itertools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.errors import UserError, few, printable
from shards.manifest import Manifest
from shards.reader import ShardSet
from shards.sources.registry import FORMATS

CHUNK = 4096
NAMES_SHOWN = 3
MAX_CLASSES_NAMED = 20
"""The largest number of class names that a printed command lists; longer lists are left out."""
EXCLUSIONS = "shared.jsonl"
Pair = tuple[str, str]
"""The names of two sets."""


@dataclass(frozen=True)
class Shared:
    """The images that two sets share."""

    one: str
    """The name of the first set, or a description of the images that a run was trained on."""
    other: str
    """The name of the second set."""
    ids: np.ndarray
    """int64, ascending: the ids of the samples of the second set that also occur in the first."""


def shared_of_shards(sets: Mapping[str, ShardSet]) -> list[Shared]:
    """Find the images that shard sets share.

    Pixels are compared for three kinds of pairs: the pairs that scoring compares (see `compared`),
    sets from the same source, and sets that have a shard in common. For sets from the same source,
    names are compared too.

    Args:
        sets: Name -> set. The order matters, see `compared`.

    Returns:
        One entry per pair of sets that share images.
    """
    copies = [
        (one, other)
        for one, other in itertools.combinations(sets, 2)
        if share_shards(sets[one].manifest, sets[other].manifest)
    ]
    by_pixels = shared_images(sets, [*compared(sets), *_of_one_source(sets), *copies])
    return each_pair_once([*by_pixels, *shared_names(sets)])


def shared_names(sets: Mapping[str, ShardSet]) -> list[Shared]:
    """Find images that have the same name in the same source.

    Such images are the same image of the source, even if the sets store it with different pixels,
    for example at different sizes.
    """
    pairs = _of_one_source(sets)
    names = {name: _digests_of_names(sets[name]) for name in {*itertools.chain(*pairs)}}
    return equal(names, pairs)


def _of_one_source(sets: Mapping[str, ShardSet]) -> list[Pair]:
    return [
        (one, other)
        for one, other in itertools.combinations(sets, 2)
        if share_source(sets[one].manifest, sets[other].manifest)
    ]


def shared_images(
    sets: Mapping[str, ShardSet], pairs: Iterable[Pair] | None = None
) -> list[Shared]:
    """Find the images whose pixels are equal.

    Args:
        sets: Name -> images.
        pairs: The pairs of sets to compare; by default the pairs that `compared` returns.
    """
    pairs = list(dict.fromkeys(compared(sets) if pairs is None else pairs))
    wanted = {*itertools.chain(*pairs)}
    all_digests = {name: digests(_chunks_of(sets[name])) for name in sets if name in wanted}
    return equal(all_digests, pairs)


def shared_files(sets: Mapping[str, ShardSet], pairs: Iterable[Pair]) -> list[Shared]:
    """Find the images whose stored PNG or JPEG files are equal; the files are not decoded.

    Args:
        sets: Name -> set with encoded images.
        pairs: The pairs of sets to compare.
    """
    pairs = list(pairs)
    all_digests = {
        name: np.array(
            [
                _digest(file.tobytes())
                for first in range(0, len(sets[name]), CHUNK)
                for file in sets[name].read_files(_ids(first, len(sets[name])))
            ],
            dtype="V16",
        )
        for name in {*itertools.chain(*pairs)}
    }
    return equal(all_digests, pairs)


def compared(names: Iterable[str]) -> list[Pair]:
    """Return the pairs of sets that scoring compares.

    The first set, from which the bank is made, is compared with all other sets. The second set, the
    in-distribution test set, is compared with all sets after it.
    """
    names = list(names)
    return [(one, other) for i, one in enumerate(names[:2]) for other in names[i + 1 :]]


def equal(all_digests: Mapping[str, np.ndarray], pairs: Iterable[Pair]) -> list[Shared]:
    """Find the samples whose digests are equal.

    Args:
        all_digests: Name of a set -> the digests of its samples, [N], in the order of sample ids.
        pairs: The pairs of sets to compare.
    """
    found = [
        Shared(one, other, np.flatnonzero(np.isin(all_digests[other], all_digests[one])))
        for one, other in dict.fromkeys(pairs)
    ]
    return [shared for shared in found if len(shared.ids)]


def each_pair_once(found: Iterable[Shared]) -> list[Shared]:
    """Join entries about the same pair of sets, so that each pair has one entry with all ids."""
    ids: dict[Pair, np.ndarray] = {}
    for shared in found:
        pair = shared.one, shared.other
        ids[pair] = np.union1d(ids.get(pair, shared.ids), shared.ids)
    return [Shared(*pair, its) for pair, its in ids.items()]


def digests(chunks: Iterable[np.ndarray]) -> np.ndarray:
    """Return the digest of each image, V16 [N]. A digest depends on the pixels and on the shape.

    Args:
        chunks: Arrays of images [B, ...], or of feature vectors; N is the total number of rows.
    """
    found = []
    for values in chunks:
        shape = repr(values.shape[1:]).encode()
        found += [_digest(shape + one.tobytes()) for one in values]
    return np.array(found, dtype="V16")


def _chunks_of(images: ShardSet) -> Iterable[np.ndarray]:
    for first in range(0, len(images), CHUNK):
        yield images.read(_ids(first, len(images)))


def _ids(first: int, count: int) -> np.ndarray:
    return np.arange(first, min(first + CHUNK, count))


def _digests_of_names(shards: ShardSet) -> np.ndarray:
    names = (name.encode("utf-8", "surrogatepass") for name in shards.names())
    return np.array([_digest(name) for name in names], dtype="V16")


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def share_shards(one: Manifest, other: Manifest) -> bool:
    """Return True if two sets have a shard with the same sha256 in common."""
    return not {s.sha256 for s in one.shards}.isdisjoint(s.sha256 for s in other.shards)


def share_source(one: Manifest, other: Manifest) -> bool:
    """Return True if two sets may contain the same images of the same source.

    This is so if the files of their sources have the same checksums, if they have a label in
    common, and if they are of the same split or the splits of the format overlap. A set without a
    list of labels has all labels. Only exclusion lists can keep such sets apart.

    One case is not found: the splits of an unpacked DTD share images, but its checksum is computed
    from the images of one split only, so two of its splits look like different sources.
    """
    sources = [{source.sha256 for source in m.sources} for m in (one, other)]
    labels_meet = not (one.labels and other.labels) or bool({*one.labels} & {*other.labels})
    splits_meet = one.split == other.split or not all(_has_disjoint_splits(m) for m in (one, other))
    return bool(sources[0]) and sources[0] == sources[1] and labels_meet and splits_meet


def _has_disjoint_splits(manifest: Manifest) -> bool:
    """Return True if the splits of a set's source are known to have no image in common."""
    known = FORMATS.get(manifest.source)  # None if a later version built the set
    return known is not None and bool(known.splits) and known.are_splits_disjoint


# ---- messages -------------------------------------------------------------------------------


def told(found: Sequence[Shared], sets: Mapping[str, ShardSet]) -> str:
    """Return a text with the number of shared images and the first names, per pair of sets."""
    texts = []
    for shared in found:
        names = sets[shared.other].names()
        first = [printable(names[i]) for i in shared.ids[:NAMES_SHOWN].tolist()]
        more = len(shared.ids) - len(first)
        which = ", ".join(first) + (f" and {more:,} more" if more else "")
        texts.append(f"{len(shared.ids)} of {shared.other} are in {shared.one} too ({which})")
    return "; ".join(texts)


def how_to_mend(found: Sequence[Shared], sets: Mapping[str, ShardSet]) -> str:
    """Return a text with the commands that build a set again without its shared images.

    If several sets must be built again, the text has the commands for the first of these sets and
    names the other sets.
    """
    others = list(dict.fromkeys(shared.other for shared in found))
    other = sets[others[0]]
    likewise = f"; likewise {few(others[1:])}" if others[1:] else ""
    of_other = [shared for shared in found if shared.other == others[0]]
    if len(np.unique(np.concatenate([shared.ids for shared in of_other]))) == len(other):
        return f"{others[0]} has no other images, give another set{likewise}"
    folders = [sets[shared.one].directory for shared in of_other]
    without = other.directory.with_name(f"{other.directory.name}-without")
    find = [*map(str, folders), str(other.directory), "--exclude-from", str(other.directory)]
    commands = [
        f"python -m shards.overlap {shlex.join(find)} --exclude-list {EXCLUSIONS}",
        rebuild_command(other.manifest, without, EXCLUSIONS),
    ]
    mended = f"build {others[0]} again without them: {', then '.join(commands)}"
    if excluded := other.manifest.excluded:
        mended += f" (add to {EXCLUSIONS} the list by which {excluded:,} images are left out now)"
    return mended + likewise


def rebuild_command(manifest: Manifest, out: Path, exclude: str) -> str:
    """Return the command that builds a set again without the images on an exclusion list.

    A manifest holds the name of the source but not its path, so the command has the placeholder
    `PATH/TO/NAME`.
    """
    names = [source.file for source in manifest.sources]
    source = f"PATH/TO/{names[0]}" if len(names) == 1 else f"PATH/TO/FOLDER_OF_{manifest.source}"
    words = ["--source", manifest.source, "--src", source, "--split", manifest.split]
    words += ["--size-px", str(manifest.height_px), "--channels", str(manifest.channels)]
    words += ["--encoding", manifest.encoding, "--seed", str(manifest.shuffle_seed)]
    words += ["--name", manifest.name, "--shard-samples", str(manifest.shard_samples)]
    if manifest.resize != "none":
        words += ["--resize", manifest.resize]
    if manifest.background:
        words += ["--background", manifest.background]
    if manifest.intensity is not None:
        words += ["--intensity", *map(repr, manifest.intensity)]
    if manifest.component:
        words += ["--component", manifest.component]
    if manifest.labels:
        words += ["--labels", *map(str, manifest.labels)]
    if 0 < len(manifest.classes) <= MAX_CLASSES_NAMED:
        words += ["--classes", *manifest.classes]
    known = FORMATS.get(manifest.source)
    if known is not None and known.md5 and not any("md5" in check for check in manifest.checks):
        words.append("--no-md5")
    if known is not None and known.counts and "count" not in manifest.checks:
        words.append("--no-count")
    if manifest.rejects:
        words += ["--max-rejects-pct", "100"]
    words += ["--exclude", exclude, "--out", str(out)]
    return f"python -m shards.build {shlex.join(map(printable, words))}"


def refuse(found: Sequence[Shared], sets: Mapping[str, ShardSet], or_else: str) -> None:
    """Raise an error if sets share images.

    Raises:
        UserError: `found` is not empty. The message gives the sets, the numbers and the first names
            of shared images, the commands that build sets without these images, and at the end the
            text `or_else`, which says what else the user can do.
    """
    if found:
        raise UserError(
            f"sets share images: {told(found, sets)}; {how_to_mend(found, sets)}; {or_else}"
        )
