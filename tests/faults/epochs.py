"""R3: in an epoch each sample comes once, whatever the number of ranks and the sizes.

By the training order (shards.order) and the loaders, and by DALI's own reader over the tars.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
from pathlib import Path

import numpy as np
import torch

from dali_pipes.batch import ViewSpec
from dali_pipes.eval_loader import EvalLoader
from dali_pipes.loader import TrainLoader
from dali_pipes.step_plan import StreamOrder
from shards.order import in_dist_ids, rank_slice, steps_per_epoch
from shards.reader import ShardSet
from tests.faults.cases import Builder, Source
from tests.faults.readers import images_in_dali, images_in_tarfile
from tests.faults.trial import Trial
from tests.support.shard_cases import random_images

WORLD_SIZES = (1, 2, 3, 4)
SIZE_PX = 8
SETS = ((1, 10), (3, 10), (60, 7), (61, 20), (61, 61), (100, 1), (97, 30))
"""Samples and samples a shard: sets of one sample, of shards of one, fewer shards than ranks."""


def drill(trial: Trial) -> dict[str, object]:
    """Count ids."""
    tally: collections.Counter[str] = collections.Counter()
    training_order(trial, tally)
    views = ViewSpec(global_px=16, local_px=8, local_views=1)
    builder = Builder(trial.folder)
    for samples, shard_samples in SETS:
        array = trial.folder / f"{samples}-{shard_samples}.npy"
        np.save(array, random_images(samples, SIZE_PX))
        options = dict(source="npy", src=array, size_px=SIZE_PX, shard_samples=shard_samples)
        out = array.with_suffix("")
        outcome = builder.run(Source("npy", options).argv(out))
        assert outcome.status == 0, outcome
        with_dali(trial, out, samples, tally)
        with_loaders(trial, out, views, tally)
    return {**tally, "doubled": tally["doubled"], "missing": tally["missing"]}


def training_order(trial: Trial, tally: collections.Counter[str]) -> None:
    """All ranks together: no id twice, and none left out but the rest of the division."""
    for samples, batch, world in itertools.product(
        (12, 13, 59, 60, 61, 1000), (12, 24, 36, 60), WORLD_SIZES
    ):
        if samples < batch:
            continue
        for epoch in range(trial.count(3, 20)):
            steps = steps_per_epoch(samples, batch)
            seen: collections.Counter[int] = collections.Counter()
            for step in range(epoch * steps, (epoch + 1) * steps):
                ids = in_dist_ids(samples, batch, trial.seed, step)
                for rank in range(world):
                    seen.update(ids[rank_slice(batch, rank, world)].tolist())
            count_ids(
                trial,
                f"order of {samples}, batch {batch}, {world} ranks, epoch {epoch}",
                seen,
                set(range(samples)),
                samples % batch,
                tally,
            )
            tally["epochs_of_the_order"] += 1


def count_ids(
    trial: Trial,
    what: str,
    seen: collections.Counter,
    expected: set,
    left_out: int,
    tally: collections.Counter[str],
) -> None:
    """Each of `expected` once, but for so many that are left out."""
    doubled = sum(times > 1 for times in seen.values())
    missing = len(expected - set(seen)) - left_out
    tally["doubled"] += doubled
    tally["missing"] += abs(missing)
    strangers = set(seen) - expected
    holds = not doubled and not missing and not strangers
    trial.expect(holds, f"{what}: {doubled} twice, {missing} missing, {len(strangers)} unknown")


def with_dali(trial: Trial, out: Path, samples: int, tally: collections.Counter[str]) -> None:
    """DALI's own reader, by the set's indexes, on 1 to 4 ranks."""
    expected = {hashlib.sha256(image).hexdigest() for image in images_in_tarfile(out, "bin")}
    trial.expect(len(expected) == samples, f"{out.name}: {len(expected)} images in its tars")
    for world in WORLD_SIZES:
        seen = collections.Counter(
            hashlib.sha256(image).hexdigest()
            for rank in range(min(world, samples))
            for image in images_in_dali(out, "bin", rank, min(world, samples))
        )
        count_ids(trial, f"{out.name}: DALI, {world} ranks", seen, expected, 0, tally)
        tally["epochs_of_dali"] += 1


def with_loaders(trial: Trial, out: Path, views: ViewSpec, tally: collections.Counter[str]) -> None:
    """The loaders of the project, with batches that do not divide the set."""
    cpu = torch.device("cpu")
    with ShardSet.open(out) as shards:
        expected = set(range(len(shards)))
        for batch in (1, 7, 64):
            seen: collections.Counter[int] = collections.Counter()
            for ids, images in EvalLoader(shards, SIZE_PX, batch, cpu):
                seen.update(ids.tolist())
                trial.expect(len(ids) == len(images), f"{out.name}: {len(images)} images")
            count_ids(trial, f"{out.name}: EvalLoader({batch})", seen, expected, 0, tally)
            tally["epochs_of_the_eval_loader"] += 1
        for world in WORLD_SIZES:
            if len(shards) < 12:
                continue
            seen = collections.Counter()
            for rank in range(world):
                order = StreamOrder(12, trial.seed, rank, world)
                loader = TrainLoader(shards, None, views, "none", order, cpu)
                for batch in itertools.islice(loader, loader.steps_per_epoch):
                    seen.update(batch.in_dist_ids.tolist())
                loader.close()
            what = f"{out.name}: TrainLoader, {world} ranks"
            count_ids(trial, what, seen, expected, len(shards) % 12, tally)
            tally["epochs_of_the_train_loader"] += 1
