"""What all command lines share."""

from __future__ import annotations

import pytest

from shards.cli import few


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], ""),
        ([7], "7"),
        (["a", "b", "c", "d", "e"], "a, b, c, d, e"),
        (list(range(6)), "0, 1, 2, 3, 4 and 1 more"),
        (list(range(2005)), "0, 1, 2, 3, 4 and 2,000 more"),
    ],
)
def test_the_first_of_many_values(values: list[object], shown: str) -> None:
    assert few(values) == shown


def test_fewer_of_them() -> None:
    assert few(["one", "two", "three"], most=2) == "one, two and 1 more"
