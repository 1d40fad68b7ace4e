"""The inputs of the training graph at each step: images, and the parameters of every view.

DALI calls `GraphInputs` as the callback of the graph's only `external_source`. The result depends
only on the step. So the graph needs no checkpoint of its own: a resumed run starts a new graph at
the step at which it resumes.
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
    """One view that the graph makes of each image."""

    images: str
    """The images from which the view is made, a name in `GraphInputs.streams`."""
    side_px: int
    negative: NegativeBranch | None
    """The negative branch that makes the view; None for a positive view."""
    in_source_space: bool
    """True if the graph changes the colours of the view, before the resize."""
    positions: Mapping[str, int]
    """Name of a parameter -> its position in the list that `GraphInputs.__call__` returns."""


class GraphInputs:
    """The callback that gives DALI the arrays [B, ...] of each step.

    It is made for `fn.external_source(batch=True, batch_info=True)`.
    """

    def __init__(
        self, plan: StepPlan, readers: Mapping[str, Reader | EncodedReader], first_step: int
    ) -> None:
        """Prepare the inputs for a graph that starts at `first_step`."""
        self._plan = plan
        self._readers = readers
        self._first_step = first_step
        self._given: dict[int, list[GroupParams]] = {}
        self.channels = plan.channels
        self.image_px = plan.height
        """The height of an input image in pixels. Shifts in source space need square images, and
        use this value as the side."""
        self.shifts_source = plan.spec.shift_space == "source"
        self.in_source_space = plan.spec.works_in_source_space(max(plan.height, plan.width))
        """True if jitter and blur act on the crop, before the resize. Groups with an early shift
        are an exception: there, jitter and blur act on the view."""
        self.encoded = any(isinstance(reader, EncodedReader) for reader in readers.values())
        """True if images are given to the graph as files, uint8 [number of bytes], which the graph
        decodes."""
        self.streams = tuple(dict.fromkeys(self._images_of(group) for group in plan.groups))
        """The names of the arrays of images, which come first in the list that a call returns. A
        name is "in-dist" or "aux", or "branch-N" for a branch N that mixes both streams."""
        position = len(self.streams)
        self.views: list[GraphView] = []
        """All views of an image, in the order of the graph's outputs."""
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
        """Return the arrays of a step: first the images, then the parameters of all views.

        The step is `first_step + info.iteration`.
        """
        step = self._first_step + info.iteration
        ids = self._plan.ids(step)
        groups = self._given[step] = self._plan.params(step)
        images: dict[str, Any] = {}
        for stream, reader in self._readers.items():
            read = reader.read(ids[stream])
            # Numpy arrays are given, because DALI asks torch tensors for their CUDA stream, even on
            # the CPU.
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
        """Return the parameters that the graph got for a step, and forget them.

        So this can be called only once per step.
        """
        return self._given.pop(step)

    def _images_of(self, group: ViewGroup) -> str:
        if group.branch is None:
            return "in-dist"
        streams = self._plan.branches[group.branch].streams
        return f"branch-{group.branch}" if len(streams) > 1 else next(iter(streams))

    def _arrays(self, group: GroupParams) -> list[dict[str, np.ndarray]]:
        """Return the graph's parameters for each view of a group: name -> array [B, ...]."""
        shift = group.shift
        if group.early:
            assert group.negative is not None
            shift = group.negative.params_of(shift, "early")
        elif not (self.in_source_space or self.shifts_source):
            shift = {}  # Colours and shift are applied later, after the graph.
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
