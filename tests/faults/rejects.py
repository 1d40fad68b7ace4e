"""S7: a build that rejects more than it was allowed to fails, and does not publish a small set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.faults.cases import Builder, Source, photograph_files
from tests.faults.trial import Trial

IMAGES = 200


def drill(trial: Trial) -> dict[str, object]:
    """Sets with some bad images, and budgets that are just enough and just too small."""
    figures = {"within_budget_built": 0, "over_budget_refused": 0}
    files = list(zip(range(IMAGES), photograph_files(12, "JPEG", seed=3), strict=False))
    builder = Builder(trial.folder)
    for bad in (0, 1, 2, 7, 100, IMAGES - 1, IMAGES):
        src = trial.folder / f"bad-{bad}"
        src.mkdir()
        broken = set(trial.rng(bad).permutation(IMAGES)[:bad].tolist())
        for i, data in files:
            (src / f"{i:03d}.jpg").write_bytes(b"no image" if i in broken else data)
        names = {f"{i:03d}.jpg" for i in broken}
        source = Source("folder", dict(source="folder", src=src, size_px=8, shard_samples=50))
        for budget in {bad, max(bad - 1, 0)}:
            # The middle between two whole numbers of images, so that rounding plays no part.
            pct = min(100 * (budget + 0.5) / IMAGES, 100)
            out = trial.folder / "sets" / "set"
            outcome = builder.run(source.argv(out, max_rejects_pct=pct))
            what = f"{bad} bad of {IMAGES}, {pct} % allowed: {outcome}"
            if bad == IMAGES:
                said = f"all {IMAGES}" in outcome.output or str(budget) in outcome.output
                trial.expect(outcome.is_clean_failure and said, what)
                trial.expect(not out.exists(), f"{what}: published an empty set")
            elif bad <= budget:
                built = outcome.status == 0 and _rejected(out) == names
                figures["within_budget_built"] += trial.expect(built, what)
            else:
                named = [name for name in names if name in outcome.output]
                is_told = (
                    outcome.is_clean_failure
                    and bool(named)
                    and f"allows {budget}" in outcome.output
                    and str(budget + 1) in outcome.output
                )
                is_refused = trial.expect(is_told and not out.exists(), what)
                figures["over_budget_refused"] += is_refused
            shutil.rmtree(out.parent, ignore_errors=True)
    return dict(figures)


def _rejected(out: Path) -> set[str]:
    path = out / "rejects.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {json.loads(line)["name"] for line in lines}
