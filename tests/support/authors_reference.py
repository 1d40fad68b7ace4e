"""One training step of the authors' public code: a slow reference for train/step.py.

It was written from descriptions of that code, and of DINO's code that it is based on: one process,
a loop wherever theirs has a loop, schedules as arrays over all steps, and a host that waits for the
loss and for the norm of every gradient. It computes in the dtype of its networks.

Legend: S negative sources, N local views, B images, K prototypes, G and L sides of views.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class PublicOptions:
    """The options of the authors' command line, with their values for CIFAR-10."""

    epochs: int = 500
    steps_per_epoch: int = 390
    images_a_step: int = 128
    lr: float = 0.004
    """Learning rate at 256 images a step."""
    min_lr: float = 1e-6
    warmup_epochs: int = 30
    weight_decay: float = 0.04
    weight_decay_end: float = 0.4
    momentum_teacher: float = 0.996
    teacher_temp: float = 0.04
    final_teacher_temp: float = 0.01
    student_temp: float = 0.1
    centre_momentum: float = 0.9
    clip_grad: float = 3.0
    freeze_last_layer: int = 1
    """Number of epochs."""
    quirks: bool = True
    """The centre follows two rows, and a single negative source multiplies the loss by 1.5."""


class PublicHead(nn.Module):
    """DINO's head: linear layers with GELU, normalisation, weight-normalised prototypes."""

    def __init__(
        self, in_dim: int, out_dim: int, layers: int = 3, hidden: int = 2048, bottleneck: int = 256
    ) -> None:
        super().__init__()
        sizes = [in_dim, *[hidden] * (layers - 1), bottleneck]
        self.linears = nn.ModuleList(
            nn.Linear(sizes[number], sizes[number + 1]) for number in range(layers)
        )
        for linear in self.linears:
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        self.last_layer_v = nn.Parameter(torch.empty(out_dim, bottleneck))
        nn.init.kaiming_uniform_(self.last_layer_v, a=math.sqrt(5))
        self.last_layer_g = nn.Parameter(torch.ones(out_dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        for number, linear in enumerate(self.linears):
            x = linear(x if number == 0 else functional.gelu(x))
        x = functional.normalize(x, dim=-1, p=2)
        v = self.last_layer_v
        return x @ (self.last_layer_g * v / v.norm(dim=1, keepdim=True)).T


class PublicNetwork(nn.Module):
    """DINO's multi-crop wrapper: one backbone pass for each size, one head pass for all."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, crops: Sequence[Tensor]) -> Tensor:
        """Map crops [B, 3, s, s], in order of size, to logits [V * B, K], crop after crop."""
        features = []
        start = 0
        while start < len(crops):
            end = start
            while end < len(crops) and crops[end].shape[-1] == crops[start].shape[-1]:
                end += 1
            features.append(self.backbone(torch.cat(list(crops[start:end]))))
            start = end
        return self.head(torch.cat(features))


def cosine_scheduler(
    base: float, final: float, epochs: int, steps_per_epoch: int, warmup_epochs: int = 0
) -> np.ndarray:
    """Return a cosine schedule: a value for each step of the run."""
    warmup_steps = warmup_epochs * steps_per_epoch
    warmup = np.linspace(0, base, warmup_steps) if warmup_epochs > 0 else np.array([])
    steps = np.arange(epochs * steps_per_epoch - warmup_steps)
    rest = final + 0.5 * (base - final) * (1 + np.cos(np.pi * steps / len(steps)))
    return np.concatenate([warmup, rest])


class PublicStep:
    """A training, step by step; it changes the networks that it gets."""

    def __init__(self, student: nn.Module, teacher: nn.Module, options: PublicOptions) -> None:
        """Take `student` and `teacher`, each with a `backbone` and a `head`, equal at the start."""
        self.student, self.teacher, self.options = student, teacher, options
        for parameter in self.teacher.parameters():
            parameter.requires_grad = False
        self.centre: Tensor | None = None
        regularized, not_regularized = [], []
        for name, parameter in student.named_parameters():
            if not parameter.requires_grad:
                continue
            if name.endswith(".bias") or len(parameter.shape) == 1:
                not_regularized.append(parameter)
            else:
                regularized.append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": regularized}, {"params": not_regularized, "weight_decay": 0.0}],
            lr=0.0,
            foreach=False,
            fused=False,
        )
        o = options
        run = (o.epochs, o.steps_per_epoch)
        peak = o.lr * o.images_a_step / 256
        self.lrs = cosine_scheduler(peak, o.min_lr, *run, o.warmup_epochs)
        self.weight_decays = cosine_scheduler(o.weight_decay, o.weight_decay_end, *run)
        self.momenta = cosine_scheduler(o.momentum_teacher, 1.0, *run)
        self.teacher_temps = np.linspace(o.teacher_temp, o.final_teacher_temp, o.epochs)

    def step(
        self, global_views: Tensor, local_views: Tensor, iteration: int
    ) -> dict[str, float | int]:
        """Train on global views [2 + S, B, 3, G, G] and local views [N (1 + S), B, 3, L, L].

        Returns:
            `loss`, `positive`, and with negatives `negative`; `clipped`: how many parameters'
            gradients were too long.
        """
        o = self.options
        epoch = iteration // o.steps_per_epoch
        for number, group in enumerate(self.optimizer.param_groups):
            group["lr"] = self.lrs[iteration]
            if number == 0:
                group["weight_decay"] = self.weight_decays[iteration]

        sources = len(global_views) - 2
        locals_ = len(local_views) // (1 + sources)
        student_out = self.student([*global_views[:2], *local_views[:locals_]])
        with torch.no_grad():
            teacher_out = self.teacher(list(global_views[:2]))
        if self.centre is None:
            self.centre = torch.zeros_like(teacher_out[:1])
        positive = self.positive_loss(student_out, teacher_out, self.teacher_temps[epoch])
        losses = {"positive": positive}
        loss = positive
        if sources:
            negative_out = self.student([*global_views[2:], *local_views[locals_:]])
            with torch.no_grad():
                self.teacher(list(global_views[2:]))  # its result is not used
            negative = self.negative_loss(negative_out, len(global_views[2:]) * (1 + locals_))
            losses["negative"] = negative
            loss = positive + negative
            if sources == 1 and o.quirks:
                loss = 1.5 * loss
        losses["loss"] = loss
        self.update_centre(teacher_out)
        if not math.isfinite(loss.item()):
            sys.exit(f"loss is {loss.item()}, stopping training")

        self.optimizer.zero_grad()
        loss.backward()
        clipped = self.clip_gradients()
        if epoch < o.freeze_last_layer:
            for name, parameter in self.student.named_parameters():
                if "last_layer" in name:
                    parameter.grad = None
        self.optimizer.step()
        with torch.no_grad():
            m = self.momenta[iteration]
            for mine, theirs in zip(
                self.student.parameters(), self.teacher.parameters(), strict=True
            ):
                theirs.mul_(m).add_((1 - m) * mine.detach())
        return {name: value.item() for name, value in losses.items()} | {"clipped": clipped}

    def positive_loss(self, student_out: Tensor, teacher_out: Tensor, temp: float) -> Tensor:
        """Return the mean over pairs of a teacher crop and another student crop."""
        batch = len(teacher_out) // 2
        student = (student_out / self.options.student_temp).split(batch)
        teacher = functional.softmax((teacher_out - self.centre) / temp, dim=-1).detach().chunk(2)
        total, terms = torch.zeros_like(student_out[0, 0]), 0
        for i, q in enumerate(teacher):
            for v in range(len(student)):
                if v == i:
                    continue
                loss = torch.sum(-q * functional.log_softmax(student[v], dim=-1), dim=-1)
                total = total + loss.mean()
                terms += 1
        return total / terms

    def negative_loss(self, student_out: Tensor, crops: int) -> Tensor:
        """Return the mean over crops of the cross-entropy to the uniform distribution."""
        total = torch.zeros_like(student_out[0, 0])
        uniform = torch.full_like(student_out[0], 1 / student_out.shape[-1])
        for out in (student_out / self.options.student_temp).chunk(crops):
            loss = torch.sum(-uniform * functional.log_softmax(out, dim=-1), dim=-1)
            total = total + loss.mean()
        return total / crops

    @torch.no_grad()
    def update_centre(self, teacher_out: Tensor) -> None:
        """Move the centre towards the mean of the teacher's output, or of its first two rows."""
        rows = teacher_out[:2] if self.options.quirks else teacher_out
        mean = torch.sum(rows, dim=0, keepdim=True) / len(rows)
        m = self.options.centre_momentum
        self.centre = self.centre * m + mean * (1 - m)

    def clip_gradients(self) -> int:
        """Clip each gradient that is too long; return the number of those."""
        clipped = 0
        for parameter in self.student.parameters():
            if parameter.grad is not None:
                norm = parameter.grad.data.norm(2)
                coefficient = self.options.clip_grad / (norm + 1e-6)
                if coefficient < 1:
                    parameter.grad.data.mul_(coefficient)
                    clipped += 1
        return clipped
