"""The parts of the loss (paper, Eq. 1 and 3-5), in float32.

Legend: V views of the student, G global views of the teacher, B images, K prototypes.
"""

from __future__ import annotations

from torch import Tensor


def student_log_p(logits: Tensor, temp: float) -> Tensor:
    """Return log p_s (Eq. 1) for logits [V, B, K]; `temp` is tau_s."""
    return (logits / temp).log_softmax(-1)


def teacher_p(logits: Tensor, centre: Tensor, temp: float) -> Tensor:
    """Return p_t (Eq. 1) for logits [G, B, K] minus the centre [1, K]; `temp` is tau_t."""
    return ((logits - centre) / temp).softmax(-1)


def positive_loss(log_p: Tensor, q: Tensor) -> Tensor:
    """Return L_pos (Eq. 3): cross-entropy between each teacher view and each other student view.

    It is a mean over the `positive_terms` pairs and over the batch, as in DINO's code, computed as
    sum_{g != v} q_g . log p_v = (sum_g q_g) . (sum_v log p_v) - sum_g q_g . log p_g.

    Args:
        log_p: the student's log probabilities, [V, B, K]. The first G views are the teacher's too.
        q: the teacher's probabilities, [G, B, K].
    """
    same_view = (q * log_p[: len(q)]).sum((0, -1))
    all_pairs = (q.sum(0) * log_p.sum(0)).sum(-1)
    return (same_view - all_pairs).mean() / positive_terms(log_p, q)


def positive_terms(log_p: Tensor, q: Tensor) -> int:
    """Return the number of pairs of views in the sum of Eq. 3."""
    return len(q) * (len(log_p) - 1)


def negative_loss(log_p: Tensor) -> Tensor:
    """Return L_neg (Eq. 4): the cross-entropy to the uniform distribution; its minimum is ln K.

    It is a mean over views and batch. `log_p` are the student's log probabilities, [V, B, K].
    """
    return -log_p.mean()


def entropy(log_p: Tensor) -> Tensor:
    """Return the mean entropy, in nats, of distributions with log probabilities [..., K]."""
    return -(log_p.exp() * log_p).sum(-1).mean()
