"""The parts of the loss, compared with numpy in float64, written as the paper's double sum."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.support.step_cases import ALONE, CPU, STEPS_PER_EPOCH, random_batch, tiny_run
from train.ema import follow
from train.losses import (
    entropy,
    negative_loss,
    positive_loss,
    positive_terms,
    student_log_p,
    teacher_p,
)
from train.objective import micro_batches, objective
from train.schedules import values_at
from train.state import TrainState

COUNTS = torch.tensor(True)
"""The verdict of a step that is not skipped."""


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


def our_positive(student, teacher, centre, student_temp, teacher_temp) -> torch.Tensor:
    return positive_loss(
        student_log_p(student, student_temp), teacher_p(teacher, centre, teacher_temp)
    )


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw logits of 6 student views and 2 teacher views, and a centre: 5 images, K = 32."""
    torch.manual_seed(0)
    return torch.randn(6, 5, 32), torch.randn(2, 5, 32), torch.randn(1, 32) * 0.1


def test_responses_are_eq_1(logits) -> None:
    student, teacher, centre = (x.double() for x in logits)
    ours = student_log_p(student, 0.1)
    assert np.abs(ours.numpy() - np.log(softmax(student.numpy() / 0.1))).max() < 1e-12
    ours = teacher_p(teacher, centre, 0.04)
    theirs = softmax((teacher.numpy() - centre.numpy()) / 0.04)
    assert np.abs(ours.numpy() - theirs).max() < 1e-13


@pytest.mark.parametrize("teacher_temp", [0.055, 0.04, 0.01])
def test_positive_loss_is_eq_3(logits, teacher_temp) -> None:
    theirs = paper_positive(*logits, 0.1, teacher_temp)
    assert float(our_positive(*logits, 0.1, teacher_temp)) == pytest.approx(theirs, rel=1e-6)
    exact = our_positive(*(x.double() for x in logits), 0.1, teacher_temp)
    assert float(exact) == pytest.approx(theirs, rel=1e-13)


@pytest.mark.parametrize("views", [2, 3, 10])
def test_the_pairs_of_eq_3_are_counted(logits, views) -> None:
    _, teacher, centre = (x.double() for x in logits)
    student = torch.randn(views, 5, 32, dtype=torch.float64)
    log_p, q = student_log_p(student, 0.1), teacher_p(teacher, centre, 0.04)
    pairs = [(g, v) for g in range(2) for v in range(views) if g != v]
    assert positive_terms(log_p, q) == len(pairs)
    theirs = paper_positive(student, teacher, centre, 0.1, 0.04)
    assert float(positive_loss(log_p, q)) == pytest.approx(theirs, rel=1e-13)


def test_positive_loss_has_the_gradient_of_eq_3(logits) -> None:
    student, teacher, centre = (x.double() for x in logits)
    student.requires_grad_()
    our_positive(student, teacher, centre, 0.1, 0.04).backward()
    ours = student.grad.clone()
    # -sum_g q_g log softmax(s / tau)_v has the gradient (n p_v - sum of its q) / tau: n terms
    p = softmax(student.detach().numpy() / 0.1)
    q = softmax((teacher.numpy() - centre.numpy()) / 0.04)
    for v in range(6):
        of_others = [q[g] for g in range(2) if g != v]
        theirs = (len(of_others) * p[v] - sum(of_others)) / (0.1 * 10 * 5)
        assert np.abs(ours[v].numpy() - theirs).max() < 1e-14


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


def test_negative_loss_is_eq_4(logits) -> None:
    student = logits[0]
    p_s = softmax(student.double().numpy() / 0.1)
    theirs = -np.log(p_s).sum(-1).mean() / 32
    assert float(negative_loss(student_log_p(student, 0.1))) == pytest.approx(theirs, rel=1e-6)
    exact = negative_loss(student_log_p(student.double(), 0.1))
    assert float(exact) == pytest.approx(theirs, rel=1e-13)


def test_negative_loss_is_least_ln_k_at_the_uniform_response() -> None:
    uniform = torch.full((3, 4, 64), 2.5, dtype=torch.float64, requires_grad=True)
    loss = negative_loss(student_log_p(uniform, 0.1))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(64), rel=1e-14)
    assert uniform.grad.abs().max() < 1e-16
    nudged = uniform.detach() + 0.01 * torch.randn(3, 4, 64, dtype=torch.float64)
    assert float(negative_loss(student_log_p(nudged, 0.1))) > math.log(64)


def test_entropy_is_that_of_numpy(logits) -> None:
    student = logits[0].double()
    p = softmax(student.numpy() / 0.1)
    theirs = -(p * np.log(p)).sum(-1).mean()
    assert float(entropy(student_log_p(student, 0.1))) == pytest.approx(theirs, rel=1e-13)
    assert float(entropy(torch.full((2, 8), -math.log(8)))) == pytest.approx(math.log(8), rel=1e-6)


def test_the_centre_follows_the_mean_of_the_teacher(logits) -> None:
    _, teacher, centre = (x.double() for x in logits)
    expected = centre.numpy().copy()
    for step in range(4):
        output = teacher + step
        follow(centre, output.mean((0, 1)).unsqueeze(0), 0.9, COUNTS)
        expected = 0.9 * expected + 0.1 * output.numpy().reshape(-1, 32).mean(0)
    assert np.abs(centre.numpy() - expected).max() < 1e-14


def test_the_centre_stays_at_a_skipped_step(logits) -> None:
    centre = logits[2]
    before = centre.clone()
    follow(centre, torch.full_like(centre, math.nan), 0.9, ~COUNTS)
    follow(centre, torch.full_like(centre, math.inf), 0.9, ~COUNTS)
    assert torch.equal(centre, before)
