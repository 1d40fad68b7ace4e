"""The shifting transformations R, and the strategies that make negatives (paper, section 4.1).

To add a transformation: one entry in `SHIFTS`, a law for its parameters and a graph function that
applies them to a finished view. To add a strategy: one line in `STRATEGIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from nvidia.dali.data_node import DataNode

Params = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Shift:
    """A transformation R of a finished view: the law of its parameters, and its graph."""

    draw: Callable[[np.random.Generator, int], Params]
    """(rng, batch) -> named arrays [batch, ...]; drawn anew for every view."""
    apply: Callable[[DataNode, Mapping[str, DataNode]], DataNode]
    """(view uint8 HWC, the drawn parameters) -> view uint8 HWC."""


@dataclass(frozen=True)
class NegativeSource:
    """Images of one stream, shifted: each gives one global and N local negative views."""

    stream: Literal["in-dist", "aux"]
    shift: str
    """A name in `SHIFTS`."""


def draw_nothing(rng: np.random.Generator, batch: int) -> Params:
    """The identity has no parameters."""
    return {}


def draw_quarter_turns(rng: np.random.Generator, batch: int) -> Params:
    """90, 180 or 270 degrees counter-clockwise, each as likely."""
    return {"turns": rng.integers(1, 4, batch, dtype=np.int32)}


def leave(view: DataNode, params: Mapping[str, DataNode]) -> DataNode:
    """The identity: auxiliary images as they are."""
    return view


def turn(view: DataNode, params: Mapping[str, DataNode]) -> DataNode:
    """Quarter turns of square views, equal to numpy.rot90(view, turns) bit for bit."""
    from nvidia.dali import fn, types

    turns = params["turns"]
    if (turns & 1) == 1:
        view = fn.reshape(fn.transpose(view, perm=[1, 0, 2], transpose_layout=False), layout="HWC")
    return fn.flip(
        view,
        horizontal=fn.cast(turns >= 2, dtype=types.INT32),
        vertical=fn.cast((turns >= 1) & (turns <= 2), dtype=types.INT32),
    )


SHIFTS: Mapping[str, Shift] = {
    "identity": Shift(draw_nothing, leave),
    "rot90": Shift(draw_quarter_turns, turn),
}

StrategyName = Literal["none", "aux", "rot", "rot-in", "combined"]

STRATEGIES: Mapping[StrategyName, tuple[NegativeSource, ...]] = {
    "none": (),
    "aux": (NegativeSource("aux", "identity"),),
    "rot": (NegativeSource("aux", "rot90"),),
    "rot-in": (NegativeSource("in-dist", "rot90"),),
    "combined": (NegativeSource("in-dist", "rot90"), NegativeSource("aux", "rot90")),
}


def needs_aux(strategy: StrategyName) -> bool:
    """Whether any negative source reads the auxiliary stream."""
    return any(source.stream == "aux" for source in STRATEGIES[strategy])
