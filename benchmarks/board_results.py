"""The figures of the board: what a scoring says, and the table and goals over all tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from eval.config import EQ6
from eval.features.networks import TEACHER
from eval.sets.opening import ALL


@dataclass(frozen=True)
class Figures:
    """The figures of one task. All AUROC are of all OOD sets pooled into one, in [0, 1]."""

    ensemble: float
    members: Mapping[str, float]
    """Key of a member -> AUROC."""
    rivals: frozenset[str]
    """Keys of the members that need no network."""
    spearman: float
    """Rank correlation, over the members, of AUROC on synthetic and on real outliers."""
    seconds: float
    """Duration of training and scoring."""

    @property
    def best_member(self) -> str:
        """The key of the member with the highest AUROC, which only labels can tell."""
        return max(self.members, key=lambda key: self.members[key])

    @property
    def teacher(self) -> float:
        """The highest AUROC of a member of the teacher."""
        return max(value for key, value in self.members.items() if key.startswith(TEACHER))


def read_figures(results: Path, seconds: float) -> Figures:
    """Read the figures of one scoring from its results.json."""
    facts: Any = json.loads(results.read_text())["ensemble"]
    members = facts["members"]
    proxies = [member["proxy_auroc"] for member in members.values()]
    real = [member["auroc"] for member in members.values()]
    return Figures(
        ensemble=facts["score"][ALL]["auroc"]["value"],
        members=dict(zip(members, real, strict=True)),
        rivals=frozenset(key for key, member in members.items() if member["is_rival"]),
        spearman=float(spearmanr(proxies, real).statistic),
        seconds=seconds,
    )


def mean_of(figures: Sequence[Figures]) -> Figures:
    """Return the means over several seeds. A member counts if it is there for each seed."""
    shared = [key for key in figures[0].members if all(key in one.members for one in figures)]
    return Figures(
        ensemble=float(np.mean([one.ensemble for one in figures])),
        members={key: float(np.mean([one.members[key] for one in figures])) for key in shared},
        rivals=figures[0].rivals & set(shared),
        spearman=float(np.mean([one.spearman for one in figures])),
        seconds=sum(one.seconds for one in figures),
    )


def best_fixed_rival(tasks: Mapping[str, Figures]) -> str:
    """Return the key of the one rival with the highest mean AUROC over all tasks."""
    shared = set.intersection(*(set(one.rivals) for one in tasks.values()))
    return max(
        sorted(shared), key=lambda key: np.mean([one.members[key] for one in tasks.values()])
    )


def as_json(tasks: Mapping[str, Figures]) -> dict[str, Any]:
    """Return the line of JSON: task -> its figures, AUROC in [0, 1]."""
    rival = best_fixed_rival(tasks)
    return {
        "tasks": {
            name: {
                "ensemble": one.ensemble,
                "best_member": one.members[one.best_member],
                "best_member_name": one.best_member,
                "best_rival": one.members[rival],
                "best_rival_name": rival,
                "teacher": one.teacher,
                "eq6": one.members[f"{TEACHER}/{EQ6}"],
                "spearman": one.spearman,
                "seconds": one.seconds,
            }
            for name, one in tasks.items()
        }
    }


def as_lines(tasks: Mapping[str, Figures]) -> list[str]:
    """Return the table, one line a task, and the comparisons over all tasks."""
    rival = best_fixed_rival(tasks)
    lines = [
        f"{'AUROC in %':22}{'ensemble':>9}{'best member':>12}{'rival':>8}{'teacher':>9}{'Eq. 6':>8}"
        f"{'Spearman':>10}{'s':>7}  best member"
    ]
    rows = {name: _row(one, rival) for name, one in tasks.items()}
    rows["mean"] = list(np.mean(list(rows.values()), axis=0))
    for name, row in rows.items():
        best = tasks[name].best_member if name in tasks else ""
        numbers = "".join(
            f"{value:{width}.2f}"
            for value, width in zip(row[:6], (9, 12, 8, 9, 8, 10), strict=True)
        )
        lines.append(f"{name:22}{numbers}{row[6]:7.0f}  {best}")
    below = np.array([row[1] - row[0] for name, row in rows.items() if name != "mean"])
    gain = rows["mean"][0] - rows["mean"][2]
    return [
        *lines,
        f"The best fixed rival is {rival}; the ensemble is {gain:+.2f} above it in the mean.",
        f"The ensemble is at most 0.5 below the best member on {int((below <= 0.5).sum())} of "
        f"{len(below)} tasks, and {below.max():.2f} below it at worst.",
    ]


def _row(one: Figures, rival: str) -> list[float]:
    rates = one.ensemble, one.members[one.best_member], one.members[rival], one.teacher
    rates += (one.members[f"{TEACHER}/{EQ6}"],)
    return [*(100 * rate for rate in rates), one.spearman, one.seconds]
