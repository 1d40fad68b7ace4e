"""The order of samples has its properties for any set, batch and number of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from shards.errors import UserError
from shards.order import aux_ids, in_dist_ids, rank_slice, steps_per_epoch

seeds = st.integers(0, 2**31)
epochs = st.integers(0, 50)


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 7), seeds, epochs)
def test_each_id_comes_once_an_epoch(batch, steps, rest, seed, epoch) -> None:
    samples = batch * steps + rest % batch
    assert steps_per_epoch(samples, batch) == steps
    batches = [in_dist_ids(samples, batch, seed, epoch * steps + i) for i in range(steps)]
    assert all(ids.dtype == np.int64 and ids.shape == (batch,) for ids in batches)
    ids = np.concatenate(batches)
    assert len(set(ids.tolist())) == batch * steps
    assert ids.min() >= 0
    assert ids.max() < samples
    if samples == batch * steps:
        assert sorted(ids.tolist()) == list(range(samples))


@given(st.integers(1, 8), st.integers(0, 100), seeds)
def test_ranks_share_the_global_batch(per_rank, step, seed) -> None:
    batch = 4 * per_rank
    for ids_of in (in_dist_ids, aux_ids):
        ids = ids_of(5 * batch + 3, batch, seed, step)
        for world_size in (1, 2, 4):
            parts = [ids[rank_slice(batch, rank, world_size)] for rank in range(world_size)]
            assert {len(part) for part in parts} == {batch // world_size}
            assert np.array_equal(np.concatenate(parts), ids)


@given(st.integers(12, 60), seeds, epochs)
def test_each_epoch_stream_and_seed_has_its_own_order(samples, seed, epoch) -> None:
    ids = in_dist_ids(samples, samples, seed, epoch)
    assert np.array_equal(ids, in_dist_ids(samples, samples, seed, epoch))
    assert not np.array_equal(ids, in_dist_ids(samples, samples, seed, epoch + 1))
    assert not np.array_equal(ids, in_dist_ids(samples, samples, seed + 1, epoch))
    assert not np.array_equal(ids, aux_ids(samples, samples, seed, epoch))


@given(st.integers(12, 30), st.integers(1, 70), seeds)
def test_aux_cycles_with_nothing_left_out(samples, batch, seed) -> None:
    steps = -(-3 * samples // batch)
    stream = np.concatenate([aux_ids(samples, batch, seed, step) for step in range(steps)])
    passes = [stream[i * samples : (i + 1) * samples] for i in range(3)]
    for one in passes:
        assert sorted(one.tolist()) == list(range(samples))
    assert not np.array_equal(passes[0], passes[1])
    assert not np.array_equal(passes[1], passes[2])


@given(st.integers(1, 200), st.integers(1, 6), st.sampled_from([1, 2, 3, 4, 8]), seeds)
def test_all_ranks_take_the_same_number_of_steps(samples, per_rank, world_size, seed) -> None:
    """All ranks take the same number of steps, of one size, with disjoint ids."""
    batch = per_rank * world_size
    if samples < batch:
        with pytest.raises(UserError):
            steps_per_epoch(samples, batch)
        return
    seen: list[int] = []
    for step in range(steps_per_epoch(samples, batch)):
        for rank in range(world_size):
            part = in_dist_ids(samples, batch, seed, step)[rank_slice(batch, rank, world_size)]
            assert len(part) == per_rank
            seen += part.tolist()
    assert len(set(seen)) == len(seen) == samples - samples % batch


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_shuffle_is_global(epoch) -> None:
    """The classes of a batch are like random draws, and neighbours in the set are separated.

    The set is sorted into 20 classes, as sources are.
    """
    samples, batch, classes = 20_000, 500, 20
    steps = steps_per_epoch(samples, batch)
    order = np.concatenate(
        [in_dist_ids(samples, batch, 5, epoch * steps + step) for step in range(steps)]
    )
    label = order // (samples // classes)
    counts = np.stack([np.bincount(part, minlength=classes) for part in label.reshape(-1, batch)])
    # Draws are without replacement, so the statistic is a little below that of a multinomial.
    statistic = ((counts - batch / classes) ** 2 / (batch / classes)).sum()
    assert chi2(steps * (classes - 1)).cdf(statistic * (samples - 1) / (samples - batch)) < 0.999
    assert np.count_nonzero(np.abs(np.diff(order)) == 1) < 15  # The expected number is 2.
    place = np.argsort(order)
    assert abs(np.corrcoef(place, np.arange(samples))[0, 1]) < 0.03


def test_the_order_is_the_published_one() -> None:
    """A change of the order would change every recorded run."""
    assert in_dist_ids(10, 4, 7, 0).tolist() == [8, 0, 7, 1]
    assert in_dist_ids(10, 4, 7, 3).tolist() == [3, 7, 9, 0]
    assert aux_ids(3, 7, 7, 1).tolist() == [2, 0, 2, 0, 1, 2, 1]


def test_a_callers_change_of_a_batch_does_not_reach_the_next() -> None:
    for ids_of in (in_dist_ids, aux_ids):
        ids = ids_of(20, 10, 3, 1)
        before = ids.copy()
        ids[:] = 0
        assert np.array_equal(ids_of(20, 10, 3, 1), before)


def test_too_small_a_set_and_uneven_ranks_are_refused() -> None:
    with pytest.raises(UserError, match="9 samples.*10"):
        steps_per_epoch(9, 10)
    with pytest.raises(UserError, match="global_batch is 10, .* expected a multiple of 4"):
        rank_slice(10, 0, 4)
