"""All that changes during a run, as named tensors and plain values: what a checkpoint holds.

Randomness is not among it: order and draws are functions of (seed, step), and torch's generator is
reseeded from them at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train.config import RunConfig
from train.model import Network, build_networks
from train.optim import build_optimizer


@dataclass
class TrainState:
    """The networks, the centre, the optimizer, and the number of the next step."""

    student: Network
    teacher: Network
    centre: Tensor
    """float32 [1, K]"""
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def start(cls, config: RunConfig, device: torch.device) -> TrainState:
        """The state before the first step, a function of the configuration."""
        student, teacher = build_networks(config, device)
        return cls(
            student=student,
            teacher=teacher,
            centre=torch.zeros(1, config.head.prototypes, device=device),
            optimizer=build_optimizer(student, config.optim),
        )

    def network_tensors(self) -> dict[str, Tensor]:
        """Student, teacher and centre by name."""
        tensors = {"centre": self.centre}
        for name, network in (("student", self.student), ("teacher", self.teacher)):
            for key, value in network.state_dict().items():
                tensors[f"{name}.{key}"] = value
        return tensors

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimizer's tensors, `<number of the parameter>.<name>`."""
        return {
            f"{number}.{name}": value
            for number, values in self.optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }

    def values(self) -> dict[str, Any]:
        """The rest, as JSON values."""
        return {"step": self.step, "groups": self.optimizer.state_dict()["param_groups"]}

    def load(
        self, networks: dict[str, Tensor], optimizer: dict[str, Tensor], values: dict[str, Any]
    ) -> None:
        """Take over what the three methods above gave."""
        self.student.load_state_dict(part_of(networks, "student"))
        self.teacher.load_state_dict(part_of(networks, "teacher"))
        self.centre.copy_(networks["centre"])
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in optimizer.items():
            number, name = key.split(".", 1)
            state.setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": values["groups"]})
        self.step = values["step"]


def part_of(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors under `name`., without that prefix."""
    return {
        key.removeprefix(f"{name}."): value
        for key, value in tensors.items()
        if key.startswith(f"{name}.")
    }


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make torch's draws of this step (stochastic depth) a function of seed, step and rank."""
    torch.manual_seed(int(np.random.SeedSequence([seed, rank, step]).generate_state(1)[0]))
