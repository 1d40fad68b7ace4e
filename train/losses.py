"""The objective (paper, Eq. 3-5), in float32. Legend: V views, B images, K prototypes."""

from __future__ import annotations

from torch import Tensor


def student_log_p(logits: Tensor, temp: float) -> Tensor:
    """Log p_s (Eq. 1) of logits [V, B, K]; `temp` is tau_s."""
    return (logits / temp).log_softmax(-1)


def teacher_p(logits: Tensor, centre: Tensor, temp: float) -> Tensor:
    """p_t (Eq. 1) of logits [G, B, K], less the centre [1, K]; `temp` is tau_t."""
    return ((logits - centre) / temp).softmax(-1)


def positive_loss(log_p: Tensor, q: Tensor) -> Tensor:
    """L_pos (Eq. 3): cross-entropy of every pair of a teacher's view and another student's view.

    A mean over the `positive_terms` and the batch, as in DINO's code.
    sum_{g != v} q_g . log p_v = (sum_g q_g) . (sum_v log p_v) - sum_g q_g . log p_g.

    Args:
        log_p: the student's, [V, B, K]; its first views are the teacher's.
        q: the teacher's probabilities, [G, B, K].
    """
    same_view = (q * log_p[: len(q)]).sum((0, -1))
    all_pairs = (q.sum(0) * log_p.sum(0)).sum(-1)
    return (same_view - all_pairs).mean() / positive_terms(log_p, q)


def positive_terms(log_p: Tensor, q: Tensor) -> int:
    """How many pairs of views Eq. 3 sums over."""
    return len(q) * (len(log_p) - 1)


def negative_loss(log_p: Tensor) -> Tensor:
    """L_neg (Eq. 4): cross-entropy to the uniform distribution, whose least value is ln K.

    A mean over views and batch. `log_p`: the student's, [V, B, K].
    """
    return -log_p.mean()


def entropy(log_p: Tensor) -> Tensor:
    """Mean entropy of the distributions [..., K], in nats."""
    return -(log_p.exp() * log_p).sum(-1).mean()
