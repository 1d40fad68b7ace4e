"""What the training graph is fed each step: images, and the parameters of every view.

`GraphInputs` is the callback of the graph's only source. It is a function of the step alone, so the
graph behind it needs no state: to resume is to start it at another step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from dali_pipes.dali.params import graph_params
from dali_pipes.negatives import NegativeSource
from dali_pipes.readers import EncodedReader, Reader
from dali_pipes.step_plan import GroupParams, StepPlan, ViewGroup


@dataclass(frozen=True)
class GraphView:
    """One view of the graph."""

    images: str
    """Which of `GraphInputs.streams` it is made of."""
    side_px: int
    negative: NegativeSource | None
    """None = a positive view."""
    in_source_space: bool
    """Whether its colours change in the graph, before the resize."""
    positions: Mapping[str, int]
    """The position in a call of each of its parameters."""


class GraphInputs:
    """Callable for `fn.external_source(batch=True, batch_info=True)`: step -> arrays [B, ...]."""

    def __init__(
        self, plan: StepPlan, readers: Mapping[str, Reader | EncodedReader], first_step: int
    ) -> None:
        """Feed the steps from `first_step` on."""
        self._plan = plan
        self._readers = readers
        self._first_step = first_step
        self._given: dict[int, list[GroupParams]] = {}
        self.channels = plan.channels
        self.source_px = plan.height
        """Side of a source; meant where it has to be square."""
        self.shifts_source = plan.spec.shift_space == "source"
        self.in_source_space = plan.spec.works_in_source_space(max(plan.height, plan.width))
        """Whether views work there, but for those of `GroupParams` that are early."""
        self.encoded = any(isinstance(reader, EncodedReader) for reader in readers.values())
        """Whether images come as files, uint8 [bytes], for the graph to decode."""
        self.streams = tuple(dict.fromkeys(self._images_of(group) for group in plan.groups))
        """The sets of images in the order of a call, where they come first: the streams, and what
        a source that mixes two streams takes of each."""
        position = len(self.streams)
        self.views: list[GraphView] = []
        """All views in the order of the graph's outputs."""
        for draws in plan.draws(0):
            group = draws.group
            for params in self._params(draws):
                positions = {name: position + i for i, name in enumerate(params)}
                position += len(positions)
                images = self._images_of(group)
                in_source_space = self.in_source_space and not draws.early
                self.views.append(
                    GraphView(images, group.side_px, draws.negative, in_source_space, positions)
                )

    def __call__(self, info) -> list:
        """The arrays of DALI's batch number `info.iteration`: images, then parameters."""
        step = self._first_step + info.iteration
        ids = self._plan.ids(step)
        draws = self._given[step] = self._plan.draws(step)
        images: dict[str, Any] = {}
        for stream, reader in self._readers.items():
            read = reader.read(ids[stream])
            # Of torch's tensors DALI asks for their CUDA stream, on the CPU too.
            images[stream] = read.numpy() if isinstance(read, Tensor) else read
        for group_draws in draws:
            name = self._images_of(group_draws.group)
            if name not in images:
                pair = images["in-dist"], images["aux"]
                images[name] = [pair[int(aux)][i] for i, aux in enumerate(group_draws.from_aux)]
        return [images[name] for name in self.streams] + [
            array for group in draws for view in self._params(group) for array in view.values()
        ]

    def take_params(self, step: int) -> list[GroupParams]:
        """What the graph was given for a step; forgotten when taken."""
        return self._given.pop(step)

    def _images_of(self, group: ViewGroup) -> str:
        if group.source is None:
            return "in-dist"
        streams = self._plan.sources[group.source].streams
        return f"source-{group.source}" if len(streams) > 1 else next(iter(streams))

    def _params(self, draws: GroupParams) -> list[dict[str, np.ndarray]]:
        """The arrays [B, ...] of each view of a group."""
        shift = draws.shift
        if draws.early:
            assert draws.negative is not None
            shift = draws.negative.params_of(shift, "early")
        elif not (self.in_source_space or self.shifts_source):
            shift = {}  # after the colours, which come after the graph
        return [
            {
                **graph_params(
                    draws.view[number],
                    draws.group.kind,
                    draws.group.side_px,
                    self.channels,
                    in_source_space=self.in_source_space and not draws.early,
                ),
                **{name: values[number] for name, values in shift.items()},
            }
            for number in range(draws.group.count)
        ]
