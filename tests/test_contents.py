"""Images that sets of a scoring share."""

from __future__ import annotations

import numpy as np
import pytest

from eval.contents import refuse, shared_images
from eval.images import Pixels
from shards.cli import UserError


def random_images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def sets(**changed: np.ndarray) -> dict[str, Pixels]:
    images = {"bank": random_images(9, 0), "test": random_images(5, 1)}
    images |= {"a": random_images(7, 2), "b": random_images(6, 3)}
    return {name: Pixels(array) for name, array in {**images, **changed}.items()}


def test_sets_that_share_nothing_pass(monkeypatch):
    monkeypatch.setattr("eval.contents.CHUNK", 2)
    assert shared_images(sets()) == []
    refuse([])


def test_what_is_shared_is_named(monkeypatch):
    monkeypatch.setattr("eval.contents.CHUNK", 2)
    test, a = random_images(5, 1), random_images(7, 2)
    test[3] = random_images(9, 0)[8]
    a[[0, 6]] = random_images(9, 0)[[1, 1]]
    a[2] = test[0]
    found = shared_images(sets(test=test, a=a))
    assert [(shared.one, shared.other, shared.ids.tolist()) for shared in found] == [
        ("bank", "test", [3]),
        ("bank", "a", [0, 6]),
        ("test", "a", [2]),
    ]
    with pytest.raises(UserError, match=r"2 of a are in bank too \(ids 0, 6\)"):
        refuse(found)


def test_one_level_is_a_difference_and_so_is_the_shape():
    images = random_images(9, 0)
    other = images.copy()
    other[:, 0, 0, 0] ^= 1
    assert shared_images(sets(a=other)) == []
    assert shared_images(sets(a=images.reshape(9, 2, 8, 3))) == []
    assert len(shared_images(sets(a=images))[0].ids) == 9


def test_ood_sets_may_share(monkeypatch):
    assert shared_images(sets(b=random_images(7, 2))) == []
