"""The check that the test set of `--in-dist-test` shares no images with the training sets.

It runs before the first step, because otherwise the scorer refuses the set after the training.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping

from shards.errors import UserError
from shards.reader import ShardSet
from shards.similarity import shared
from shards.terminal import printing
from train.checkpoint import latest_checkpoint
from train.config import RunConfig
from train.world import World

TRAIN, AUX, TEST = "in-dist", "aux", "in-dist-test"
OR_ELSE = "or train without --in-dist-test"


def check_test_set(config: RunConfig, world: World) -> None:
    """Compare the test set with the training sets, on rank 0; every rank must call this.

    A resumed run is not checked again. Images that are in both training sets are printed, and are
    no error.

    Raises:
        UserError: on every rank, if the test set has images of another size than the training set,
            or shares images with a training set. The message names the sets and the images, and
            says what to do.
    """
    fault = ""
    is_asked = config.in_dist_test is not None and latest_checkpoint(config.out) is None
    if world.is_main and is_asked:
        try:
            _check(config)
        except (UserError, OSError) as error:  # the other ranks wait for the result
            fault = str(error)
    if fault := world.from_main(fault):
        raise UserError(fault)


def _check(config: RunConfig) -> None:
    folders = {TRAIN: config.in_dist, AUX: config.aux, TEST: config.in_dist_test}
    with contextlib.ExitStack() as stack:
        sets = {
            name: stack.enter_context(contextlib.closing(ShardSet.open(folder)))
            for name, folder in folders.items()
            if folder is not None
        }
        for name in (TRAIN, AUX):
            if name in sets and sets[name].manifest.sha256 == sets[TEST].manifest.sha256:
                raise UserError(
                    f"--in-dist-test {folders[TEST]} is the set of --{name}, {folders[name]}; give "
                    "one that the run does not see"
                )
        ours, theirs = (sets[name].manifest.sample_shape for name in (TEST, TRAIN))
        if ours != theirs:
            raise UserError(
                f"--in-dist-test {folders[TEST]}: images are {'x'.join(map(str, ours))}, those of "
                f"--in-dist are {'x'.join(map(str, theirs))}; build both at one size"
            )
        found = _shared(sets)
        both = [one for one in found if one.other == AUX]
        if both:
            _note(f"{shared.told(both, sets)}: they are trained on as positives and as negatives")
        shared.refuse([one for one in found if one.other == TEST], sets, OR_ELSE)


def _shared(sets: Mapping[str, ShardSet]) -> list[shared.Shared]:
    """Find shared images without decoding any, because there may be a million of them."""
    by_pixels, by_files = [], []
    for one, other in itertools.combinations(sets, 2):
        encodings = {sets[one].manifest.encoding, sets[other].manifest.encoding}
        if encodings == {"raw"}:
            by_pixels.append((one, other))
        elif len(encodings) == 1:
            by_files.append((one, other))
        else:
            folders = f"{sets[one].directory} {sets[other].directory}"
            _note(
                f"{one} and {other} have different encodings, {' and '.join(sorted(encodings))}, "
                f"so their pixels are not compared; python -m shards.overlap {folders} does that"
            )
    found = [*shared.shared_images(sets, by_pixels), *shared.shared_files(sets, by_files)]
    return shared.each_pair_once([*found, *shared.shared_names(sets)])


def _note(text: str) -> None:
    printing.tell(f"note: {text}")
