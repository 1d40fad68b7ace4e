"""Random streams: the numbers of recorded runs, and streams that are independent."""

import numpy as np
import pytest

from shards.random_streams import RandomStream, stream_rng, torch_seed

SEEDS = (0, 1, 7, 2**31, 2**32 + 5, 2**64 - 1)


def test_a_stream_keeps_its_number() -> None:
    """The numbers that recorded runs drew with: another number would make resumed runs differ."""
    assert {stream.name: stream.value for stream in RandomStream} == {
        "IN_DIST_ORDER": 0,
        "AUX_ORDER": 1,
        "VIEW_PARAMS": 2,
        "NEGATIVE_CHOICES": 3,
        "STOCHASTIC_DEPTH": 4,
    }


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("words", [(0,), (12,), (3, 0), (10**6, 2)])
def test_a_draw_is_numpys_of_seed_stream_and_words(seed, words) -> None:
    for stream in RandomStream:
        entropy = np.random.SeedSequence([seed, int(stream), *words])
        expected = np.random.Generator(np.random.PCG64(entropy)).random(5)
        assert np.array_equal(stream_rng(seed, stream, *words).random(5), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_torch_seed_is_numpys_of_seed_rank_and_step(seed) -> None:
    for rank, step in ((0, 0), (3, 0), (0, 3), (7, 123_456)):
        (expected,) = np.random.SeedSequence([seed, rank, step]).generate_state(1)
        assert torch_seed(seed, step, rank) == expected < 2**32


def test_no_two_streams_draw_the_same() -> None:
    draws = [
        stream_rng(seed, stream, step).random()
        for seed in range(20)
        for stream in RandomStream
        for step in range(20)
    ]
    assert len(set(draws)) == len(draws)
