"""The inputs of the training graph at each step: images, and the parameters of every view.

`GraphInputs` is the callback of the graph's only `external_source`. Its result depends on the step
alone, so the graph needs no checkpoint of its own: a resumed run starts it at another step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from dali_pipes.dali.params import graph_params
from dali_pipes.negatives import NegativeBranch
from dali_pipes.readers import EncodedReader, Reader
from dali_pipes.step_plan import GroupParams, StepPlan, ViewGroup


@dataclass(frozen=True)
class GraphView:
    """One view of the graph."""

    images: str
    """Name in `GraphInputs.streams` of the images that it is made of."""
    side_px: int
    negative: NegativeBranch | None
    """Its negative branch; None = a positive view."""
    in_source_space: bool
    """True if its colours change in the graph, before the resize."""
    positions: Mapping[str, int]
    """Position of each of its parameters in the list that a call returns."""


class GraphInputs:
    """Callback of `fn.external_source(batch=True, batch_info=True)`: step -> arrays [B, ...]."""

    def __init__(
        self, plan: StepPlan, readers: Mapping[str, Reader | EncodedReader], first_step: int
    ) -> None:
        """Feed the graph with the steps from `first_step` on."""
        self._plan = plan
        self._readers = readers
        self._first_step = first_step
        self._given: dict[int, list[GroupParams]] = {}
        self.channels = plan.channels
        self.image_px = plan.height
        """Side of an input image, for shifts in source space, where images must be square."""
        self.shifts_source = plan.spec.shift_space == "source"
        self.in_source_space = plan.spec.works_in_source_space(max(plan.height, plan.width))
        """True if jitter and blur act in source space, except for groups with an early shift."""
        self.encoded = any(isinstance(reader, EncodedReader) for reader in readers.values())
        """True if images are files, uint8 [bytes], which the graph decodes."""
        self.streams = tuple(dict.fromkeys(self._images_of(group) for group in plan.groups))
        """Names of the sets of images, which come first in the list that a call returns: streams,
        and the images of each branch that mixes two streams."""
        position = len(self.streams)
        self.views: list[GraphView] = []
        """All views, in the order of the graph's outputs."""
        for group_params in plan.params(0):
            group = group_params.group
            for params in self._arrays(group_params):
                positions = {name: position + i for i, name in enumerate(params)}
                position += len(positions)
                images = self._images_of(group)
                in_source_space = self.in_source_space and not group_params.early
                self.views.append(
                    GraphView(
                        images, group.side_px, group_params.negative, in_source_space, positions
                    )
                )

    def __call__(self, info) -> list:
        """Return the arrays of DALI's batch number `info.iteration`: images, then parameters."""
        step = self._first_step + info.iteration
        ids = self._plan.ids(step)
        groups = self._given[step] = self._plan.params(step)
        images: dict[str, Any] = {}
        for stream, reader in self._readers.items():
            read = reader.read(ids[stream])
            # As numpy arrays: DALI asks torch tensors for their CUDA stream, even on the CPU.
            images[stream] = read.numpy() if isinstance(read, Tensor) else read
        for group in groups:
            name = self._images_of(group.group)
            if name not in images:
                pair = images["in-dist"], images["aux"]
                images[name] = [pair[int(aux)][i] for i, aux in enumerate(group.from_aux)]
        return [images[name] for name in self.streams] + [
            array for group in groups for view in self._arrays(group) for array in view.values()
        ]

    def take_params(self, step: int) -> list[GroupParams]:
        """Return, once, the parameters that the graph got for a step."""
        return self._given.pop(step)

    def _images_of(self, group: ViewGroup) -> str:
        if group.branch is None:
            return "in-dist"
        streams = self._plan.branches[group.branch].streams
        return f"branch-{group.branch}" if len(streams) > 1 else next(iter(streams))

    def _arrays(self, group: GroupParams) -> list[dict[str, np.ndarray]]:
        """Return the arrays [B, ...] of each view of a group."""
        shift = group.shift
        if group.early:
            assert group.negative is not None
            shift = group.negative.params_of(shift, "early")
        elif not (self.in_source_space or self.shifts_source):
            shift = {}  # the shift follows the colours, which follow the graph
        return [
            {
                **graph_params(
                    group.view[number],
                    group.group.kind,
                    group.group.side_px,
                    self.channels,
                    in_source_space=self.in_source_space and not group.early,
                ),
                **{name: values[number] for name, values in shift.items()},
            }
            for number in range(group.group.count)
        ]
