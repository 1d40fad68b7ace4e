"""The state of a run: everything that a checkpoint holds, as named tensors and plain values.

The states of random generators are not part of it. Order, views and stochastic depth are functions
of seed and step, and torch's generator is seeded from seed, step and rank at every step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shards.errors import UserError
from shards.random_streams import torch_seed
from train.config import RunConfig
from train.loss_scale import LossScale
from train.networks.model import Network, build_networks
from train.optim import build_optimizer


@dataclass
class TrainState:
    """The networks, their moving averages, the optimizer, and the number of the next step."""

    student: Network
    teacher: Network
    centre: Tensor
    """The centre, float32 [1, K], which is subtracted from the teacher's logits."""
    usage: Tensor
    """The running mean of the teacher's response to each prototype, float32 [K]."""
    positive: Tensor
    """The running mean of L_pos, a float32 scalar tensor."""
    scaler: LossScale
    """The scale of the loss (for float16) and the count of skipped steps."""
    optimizer: torch.optim.Optimizer
    step: int = 0
    """The number of the next step. It is also the number of steps that are done."""

    @classmethod
    def start(cls, config: RunConfig, device: torch.device) -> TrainState:
        """Return the state before the first step. It depends on nothing but the configuration."""
        student, teacher = build_networks(config, device)
        prototypes = config.head.prototypes
        return cls(
            student=student,
            teacher=teacher,
            centre=torch.zeros(1, prototypes, device=device),
            usage=torch.full((prototypes,), 1 / prototypes, device=device),
            positive=torch.tensor(math.log(prototypes), device=device),
            scaler=LossScale(config.precision, device),
            optimizer=build_optimizer(student, config.optim),
        )

    def running_tensors(self) -> dict[str, Tensor]:
        """Return the tensors that belong neither to a network nor to the optimizer, by name."""
        return {
            "centre": self.centre,
            "usage": self.usage,
            "positive": self.positive,
            **{f"scaler.{name}": value for name, value in self.scaler.tensors().items()},
        }

    def network_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of student, teacher and moving averages, by name."""
        tensors = self.running_tensors()
        for name, network in (("student", self.student), ("teacher", self.teacher)):
            for key, value in network.state_dict().items():
                tensors[f"{name}.{key}"] = value
        return tensors

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the optimizer. The keys are `<number of the parameter>.<name>`."""
        return {
            f"{number}.{name}": value
            for number, values in self.optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }

    def values(self) -> dict[str, Any]:
        """Return the part of the state that is no tensor, as JSON values."""
        return {"step": self.step, "groups": self.optimizer.state_dict()["param_groups"]}

    def load(
        self, networks: dict[str, Tensor], optimizer: dict[str, Tensor], values: dict[str, Any]
    ) -> None:
        """Load what `network_tensors`, `optimizer_tensors` and `values` returned.

        Raises:
            UserError: a tensor is missing, unexpected, or of another shape (the message names the
                tensor), or the optimizer has other parameters.
        """
        expected = {name: list(tensor.shape) for name, tensor in self.network_tensors().items()}
        found = {name: list(tensor.shape) for name, tensor in networks.items()}
        for name in [*expected, *found]:
            if found.get(name) != expected.get(name):
                shape, ours = found.get(name, "not there"), expected.get(name, "none")
                raise UserError(f"{name} is {shape}, expected {ours}")
        self.student.load_state_dict(part_of(networks, "student"))
        self.teacher.load_state_dict(part_of(networks, "teacher"))
        for key, running in self.running_tensors().items():
            running.copy_(networks[key])
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in optimizer.items():
            number, name = key.split(".", 1)
            state.setdefault(int(number), {})[name] = value
        try:
            self.optimizer.load_state_dict({"state": state, "param_groups": values["groups"]})
        except ValueError as error:
            raise UserError(f"the optimizer is another one: {error}") from error
        self.step = values["step"]


def part_of(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `name` and a dot, without that prefix."""
    return {
        key.removeprefix(f"{name}."): value
        for key, value in tensors.items()
        if key.startswith(f"{name}.")
    }


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for this step: random numbers in a backbone depend on seed, step and rank."""
    torch.manual_seed(torch_seed(seed, step, rank))
