"""The metrics that a run reports. Each has a key in the files, a label, a unit and a panel.

Other modules take the names of metrics from here. Besides these metrics a report has the step, the
epoch and the scheduled values (`train/schedules.py`) under their own names.

Legend: K prototypes, p_s and p_t the responses of student and teacher (paper, Eq. 1), L_pos and
L_neg the parts of the loss (paper, Eq. 3 and 4).
"""

from __future__ import annotations

from dataclasses import dataclass

NATS = "nats"
LOSSES, ENTROPIES = f"loss [{NATS}]", f"entropy [{NATS}]"
"""Titles of the panels that show several metrics."""


@dataclass(frozen=True)
class Metric:
    """A value in the reports of a run, with the names under which it is shown."""

    key: str
    """The name in metrics.jsonl and in TensorBoard."""
    label: str
    """The name in a legend or a table, for people."""
    unit: str = ""
    """The unit; empty for a count or a fraction."""
    panel: str = ""
    """The title of the panel of curves.png that shows it; empty if none does."""


LOSS = Metric("loss", "loss", NATS)
"""The loss that is minimised."""
POSITIVE = Metric("positive", "L_pos", NATS, panel=LOSSES)
"""L_pos, as a mean over pairs of views."""
NEGATIVE_KL = Metric("negative_kl", "L_neg - ln K", NATS, panel=LOSSES)
"""L_neg minus its smallest value ln K. It is the mean of KL(uniform || p_s) over negative views.
Absent without negatives."""
KL = Metric("kl", "KL to the teacher", NATS, panel=LOSSES)
"""L_pos minus the teacher's entropy. It is the mean of KL(p_t || p_s) over pairs of views."""
TEACHER_ENTROPY = Metric("teacher_entropy", "teacher", NATS, panel=ENTROPIES)
"""Mean entropy of the teacher's response."""
POSITIVE_ENTROPY = Metric("positive_entropy", "student, positives", NATS, panel=ENTROPIES)
"""Mean entropy of the student's response to positive views."""
NEGATIVE_ENTROPY = Metric("negative_entropy", "student, negatives", NATS, panel=ENTROPIES)
"""Mean entropy of the student's response to negative views. Absent without negatives."""
OCCUPIED = Metric("occupied", "of K", panel="prototypes in use")
"""Number of prototypes for which the running mean of the teacher's response is above 1 / K."""
SPREAD = Metric("spread", "0: all alike", panel="spread of the features")
"""Spread of the teacher's features: 1 minus the squared norm of their mean at unit length. It is 0
if all features point in one direction, and 1 if they point in all directions equally."""
SKIPPED = Metric("skipped", "skipped steps")
"""Number of steps since the last report that were skipped because they were not finite."""
IMAGES_PER_S = Metric("images_per_s", "throughput", "images/s")
"""The number of training images per second, over all ranks."""
DATA_WAIT_PCT = Metric("data_wait_pct", "wait for views", "%")
"""Share of the time that the host waited for views."""
ETA_S = Metric("eta_s", "time left", "s")
"""Time until the last step at the current rate."""

METRICS = (
    *(LOSS, POSITIVE, NEGATIVE_KL, KL, TEACHER_ENTROPY, POSITIVE_ENTROPY, NEGATIVE_ENTROPY),
    *(OCCUPIED, SPREAD, SKIPPED, IMAGES_PER_S, DATA_WAIT_PCT, ETA_S),
)
PANELS = {
    panel: tuple(metric for metric in METRICS if metric.panel == panel)
    for panel in (LOSSES, ENTROPIES, OCCUPIED.panel, SPREAD.panel)
}
"""Title of a panel of curves.png -> its metrics."""
