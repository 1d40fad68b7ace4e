"""Images that shard sets share: what was trained on is easy to score.

Compared are pixels, by digest; of sets that were cut from one source also the names in it. What was
stored in another way, of another source, is for `python -m shards.overlap`.
"""

from __future__ import annotations

import hashlib
import itertools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from shards.errors import UserError, few, printable
from shards.manifest import Manifest
from shards.reader import ShardSet
from shards.sources.registry import FORMATS

CHUNK = 4096
NAMES_SHOWN = 3
MAX_CLASSES_NAMED = 20
"""More class names make a command that nobody can read."""
EXCLUSIONS = "shared.jsonl"
Pair = tuple[str, str]
"""Names of two sets."""


@dataclass(frozen=True)
class Shared:
    """Equal images of two sets."""

    one: str
    """A set, or in words what a run was trained on."""
    other: str
    ids: np.ndarray
    """The samples of `other` that `one` has too: int64, ascending."""


class Pixels(Protocol):
    """Images that are read by number."""

    def __len__(self) -> int:
        """Their number."""

    def read(self, ids: np.ndarray) -> np.ndarray:
        """int64 [B] -> uint8 [B, H, W, C]."""


def shared_of_shards(sets: Mapping[str, ShardSet]) -> list[Shared]:
    """The images that shard sets share, each pair of sets once.

    Compared by pixels are the pairs of `compared`, and those that were cut from one source or hold
    the same shards.
    """
    copies = [
        (one, other)
        for one, other in itertools.combinations(sets, 2)
        if share_shards(sets[one].manifest, sets[other].manifest)
    ]
    by_pixels = shared_images(sets, [*compared(sets), *_of_one_source(sets), *copies])
    return each_pair_once([*by_pixels, *shared_names(sets)])


def shared_names(sets: Mapping[str, ShardSet]) -> list[Shared]:
    """The images that sets took from one source by one name, however they are stored."""
    pairs = _of_one_source(sets)
    names = {name: _digests_of_names(sets[name]) for name in {*itertools.chain(*pairs)}}
    return equal(names, pairs)


def _of_one_source(sets: Mapping[str, ShardSet]) -> list[Pair]:
    return [
        (one, other)
        for one, other in itertools.combinations(sets, 2)
        if share_source(sets[one].manifest, sets[other].manifest)
    ]


def shared_images(sets: Mapping[str, Pixels], pairs: Iterable[Pair] | None = None) -> list[Shared]:
    """The images whose pixels are equal, of the pairs of `compared` or of other `pairs`."""
    pairs = list(dict.fromkeys(compared(sets) if pairs is None else pairs))
    wanted = {*itertools.chain(*pairs)}
    all_digests = {name: digests(_chunks_of(sets[name])) for name in sets if name in wanted}
    return equal(all_digests, pairs)


def shared_files(sets: Mapping[str, ShardSet], pairs: Iterable[Pair]) -> list[Shared]:
    """The images of encoded sets whose files are equal: nothing is decoded for that."""
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
    """The bank, the first, with all others, the test set, the second, with all that follow."""
    names = list(names)
    return [(one, other) for i, one in enumerate(names[:2]) for other in names[i + 1 :]]


def equal(all_digests: Mapping[str, np.ndarray], pairs: Iterable[Pair]) -> list[Shared]:
    """The samples of pairs of sets that have equal digests."""
    found = [
        Shared(one, other, np.flatnonzero(np.isin(all_digests[other], all_digests[one])))
        for one, other in dict.fromkeys(pairs)
    ]
    return [shared for shared in found if len(shared.ids)]


def each_pair_once(found: Iterable[Shared]) -> list[Shared]:
    """What was found of a pair of sets in several ways, together."""
    ids: dict[Pair, np.ndarray] = {}
    for shared in found:
        pair = shared.one, shared.other
        ids[pair] = np.union1d(ids.get(pair, shared.ids), shared.ids)
    return [Shared(*pair, its) for pair, its in ids.items()]


def digests(chunks: Iterable[np.ndarray]) -> np.ndarray:
    """16 bytes for each image, or row of numbers, of its values and its shape: V16 [N]."""
    found = []
    for values in chunks:
        shape = repr(values.shape[1:]).encode()
        found += [_digest(shape + one.tobytes()) for one in values]
    return np.array(found, dtype="V16")


def _chunks_of(images: Pixels) -> Iterable[np.ndarray]:
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
    """Whether a shard of one is in the other, byte by byte."""
    return not {s.sha256 for s in one.shards}.isdisjoint(s.sha256 for s in other.shards)


def share_source(one: Manifest, other: Manifest) -> bool:
    """Equal files, split and a label in common (none named = all), so equal images among them.

    Unless exclusion lists part them: a name in the source then tells of each image.

    Of an unpacked data set whose splits are lists (DTD), the digest is of the split's images only,
    so that what its splits have in common is not found here.
    """
    sources = [{source.sha256 for source in m.sources} for m in (one, other)]
    labels_meet = not (one.labels and other.labels) or bool({*one.labels} & {*other.labels})
    splits_meet = one.split == other.split or not all(_has_disjoint_splits(m) for m in (one, other))
    return bool(sources[0]) and sources[0] == sources[1] and labels_meet and splits_meet


def _has_disjoint_splits(manifest: Manifest) -> bool:
    """Whether the splits are different images of one archive; of one's own they are only names."""
    known = FORMATS.get(manifest.source)  # None if a later version built the set
    return known is not None and bool(known.splits) and known.are_splits_disjoint


# ---- what to say of it ----------------------------------------------------------------------


def told(found: Sequence[Shared], sets: Mapping[str, ShardSet]) -> str:
    """What sets share, with the names of the first images of each pair."""
    texts = []
    for shared in found:
        names = sets[shared.other].names()
        first = [printable(names[i]) for i in shared.ids[:NAMES_SHOWN].tolist()]
        more = len(shared.ids) - len(first)
        which = ", ".join(first) + (f" and {more:,} more" if more else "")
        texts.append(f"{len(shared.ids)} of {shared.other} are in {shared.one} too ({which})")
    return "; ".join(texts)


def how_to_mend(found: Sequence[Shared], sets: Mapping[str, ShardSet]) -> str:
    """The commands that build a set again without what others have too.

    Of several such sets, those for the first; the others are named.
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
    """The command that builds a set again, without the images of a list.

    A manifest knows what its source is called, not where it is: that is `PATH/TO/NAME`.
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
    """Refuse what sets share.

    Raises:
        UserError: Names sets, counts, images and the commands that mend it, then `or_else`.
    """
    if found:
        raise UserError(
            f"sets share images: {told(found, sets)}; {how_to_mend(found, sets)}; {or_else}"
        )
