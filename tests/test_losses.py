"""The objective against float64 numpy, written as the double sum of the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from train.losses import negative_loss, positive_loss, update_centre
from train.world import World

ALONE = World(rank=0, world_size=1, device=torch.device("cpu"))


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def paper_positive(student, teacher, centre, student_temp, teacher_temp) -> float:
    """Eq. 3 term by term, divided by the number of its terms and by the batch."""
    student, teacher, centre = (np.asarray(x, np.float64) for x in (student, teacher, centre))
    total, terms = 0.0, 0
    for g in range(len(teacher)):
        for v in range(len(student)):
            if v != g:
                p_t = softmax((teacher[g] - centre) / teacher_temp)
                p_s = softmax(student[v] / student_temp)
                total -= (p_t * np.log(p_s)).sum(-1).mean()
                terms += 1
    return total / terms


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(6, 5, 32), torch.randn(2, 5, 32), torch.randn(1, 32) * 0.1


@pytest.mark.parametrize("teacher_temp", [0.055, 0.04, 0.01])
def test_positive_loss_is_eq_3(logits, teacher_temp) -> None:
    student, teacher, centre = logits
    ours = positive_loss(student, teacher, centre, 0.1, teacher_temp)
    theirs = paper_positive(student, teacher, centre, 0.1, teacher_temp)
    assert float(ours) == pytest.approx(theirs, rel=1e-5)


def test_positive_loss_has_the_gradient_of_eq_3(logits) -> None:
    student, teacher, centre = (x.double() for x in logits)
    student.requires_grad_()
    positive_loss(student, teacher, centre, 0.1, 0.04).backward()
    ours = student.grad.clone()
    for index in [(0, 0, 0), (1, 3, 7), (5, 4, 31)]:
        step = torch.zeros_like(student)
        step[index] = 1e-6
        up = paper_positive((student + step).detach(), teacher, centre, 0.1, 0.04)
        down = paper_positive((student - step).detach(), teacher, centre, 0.1, 0.04)
        assert float(ours[index]) == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-9)


def test_no_gradient_reaches_the_teacher_by_itself(logits) -> None:
    student, teacher, centre = logits
    student.requires_grad_()
    with torch.no_grad():
        teacher = teacher * 1.0
    positive_loss(student, teacher, centre, 0.1, 0.04).backward()
    assert teacher.grad is None and student.grad is not None


def test_negative_loss_is_eq_4(logits) -> None:
    student = logits[0]
    p_s = softmax(student.double().numpy() / 0.1)
    theirs = -np.log(p_s).sum(-1).mean() / 32
    assert float(negative_loss(student, 0.1)) == pytest.approx(theirs, rel=1e-5)


def test_negative_loss_is_least_ln_k_at_the_uniform_response() -> None:
    assert float(negative_loss(torch.full((3, 4, 64), 2.5), 0.1)) == pytest.approx(math.log(64))


def test_the_centre_follows_the_mean_of_the_teacher(logits) -> None:
    _, teacher, centre = logits
    expected = centre.double().numpy().copy()
    for step in range(4):
        output = teacher + step
        update_centre(centre, output, 0.9, ALONE)
        expected = 0.9 * expected + 0.1 * output.double().numpy().reshape(-1, 32).mean(0)
    assert np.abs(centre.numpy() - expected).max() < 1e-6
