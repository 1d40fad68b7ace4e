"""The parts of the loss by themselves: Eq. 3 as the paper's double sum in numpy, and its limits.

`test_step.py` compares the whole loss, its gradient, its metrics and the centre in float64.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.support.step_cases import ALONE, CPU, STEPS_PER_EPOCH, random_batch, tiny_run
from train.losses import negative_loss, positive_loss, student_log_p, teacher_p
from train.objective import micro_batches, objective
from train.schedules import values_at
from train.state import TrainState


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def paper_positive(student, teacher, centre, student_temp, teacher_temp) -> float:
    """Compute Eq. 3 term by term, divided by the number of terms and by the batch."""
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
    """Draw logits of 6 student views and 2 teacher views, and a centre: 5 images, K = 32."""
    torch.manual_seed(0)
    return torch.randn(6, 5, 32), torch.randn(2, 5, 32), torch.randn(1, 32) * 0.1


@pytest.mark.parametrize("teacher_temp", [0.055, 0.04, 0.01])
def test_positive_loss_is_eq_3(logits, teacher_temp) -> None:
    theirs = paper_positive(*logits, 0.1, teacher_temp)
    for dtype, rel in ((torch.float32, 1e-6), (torch.float64, 1e-13)):
        student, teacher, centre = (x.to(dtype) for x in logits)
        log_p, q = student_log_p(student, 0.1), teacher_p(teacher, centre, teacher_temp)
        assert float(positive_loss(log_p, q)) == pytest.approx(theirs, rel=rel)


def test_no_gradient_reaches_the_teacher_by_itself() -> None:
    config = tiny_run(loss__negative_weight=0.3)
    state, batch = TrainState.start(config, CPU), random_batch(config, 0)
    state.teacher.requires_grad_()  # a run does not do this: q would have a graph
    (part,) = micro_batches(config, ALONE, 0, batch, config.model.depth)
    values = values_at(config, 0, STEPS_PER_EPOCH)
    loss, measured = objective(config, state, state.student, part, values)
    loss.backward()
    assert [name for name, p in state.teacher.named_parameters() if p.grad is not None] == []
    trained = [p for p in state.student.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None and p.grad.any() for p in trained)
    for name in ("centre", "teacher_p", "direction"):
        assert not measured[name].requires_grad, name


def test_negative_loss_is_least_ln_k_at_the_uniform_response() -> None:
    uniform = torch.full((3, 4, 64), 2.5, dtype=torch.float64, requires_grad=True)
    loss = negative_loss(student_log_p(uniform, 0.1))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(64), rel=1e-14)
    assert uniform.grad.abs().max() < 1e-16
    nudged = uniform.detach() + 0.01 * torch.randn(3, 4, 64, dtype=torch.float64)
    assert float(negative_loss(student_log_p(nudged, 0.1))) > math.log(64)
