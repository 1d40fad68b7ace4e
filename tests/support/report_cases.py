"""Two reports, one with every part and one with the fewest, and a parser of their pages."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dali_pipes.batch import ViewSpec
from eval.audits.shortcuts import STATISTICS
from eval.report.page import ReportData
from eval.report.views import views_of_run
from eval.results.scoring import Scoring
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.reader import ShardSet
from tests.support.image_sets import build_npy_set, smooth_images
from tests.support.results_cases import (
    interval,
    made_up_probes,
    made_up_scoring,
    set_facts,
    with_provenance,
    with_set,
)
from train.config import RunConfig

HOSTILE = "<script>window.broken = 1</script>"
HOSTILE_CLASS = "\"><img src=x onerror='window.broken = 2'>"
HOSTILE_FILE = "<b onclick=alert(1)>&amp;\u202e"
BANK, TEST = "in-dist-train", "in-dist-test"
SIDE_PX = 16
COUNTS = {BANK: 30, TEST: 23, "svhn": 14, HOSTILE: 9}
VOID = {"meta", "img", "br", "hr"}
"""Elements of HTML without an end."""


class Reader(HTMLParser):
    """Tags with attributes, the text outside of styles, and whether all tags are closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag, (tag, self.getpos())

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self._open[-1:] != ["style"]:
            self.text += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for found, attributes in self.tags if found == tag]


def labelled_set(folder: Path, name: str, images: np.ndarray) -> ShardSet:
    """Images in two classes, one of them and one file of hostile names."""
    source = folder / f"{name}-source"
    for number, image in enumerate(images):
        of_class = source / ("plain" if number % 2 else "other")
        of_class.mkdir(parents=True, exist_ok=True)
        file = HOSTILE_FILE if number == 0 else str(number)
        Image.fromarray(image).save(of_class / f"{file}.png")
    out = folder / name
    request = BuildRequest(
        source="class-folders", src=source, out=out, size_px=SIDE_PX, classes=(HOSTILE_CLASS, "b")
    )
    build(request)
    return ShardSet.open(out)


def full_scoring() -> Scoring:
    names = ("svhn", HOSTILE)
    scoring = made_up_scoring(names, probes=made_up_probes())
    shortcuts = {
        name: {
            key: interval(0.52 + number / 40 + i / 1000)
            for number, key in enumerate(STATISTICS)
            if (name, key) != ("svhn", "original-size")  # this set does not know it
        }
        for i, name in enumerate(names)
    }
    facts = {name: set_facts(name, number) for number, name in enumerate(COUNTS)}
    scoring = with_provenance(scoring, bank_size=COUNTS[BANK], manifests=facts)
    return replace(scoring, counts=COUNTS, shortcuts=shortcuts)


def large(scoring: Scoring) -> Scoring:
    """The same numbers for so many images that intervals are narrow."""
    counts = {name: 50_000 for name in scoring.counts}
    return replace(scoring, counts={**counts, BANK: COUNTS[BANK]})


def report(step: int, **values) -> dict:
    """A line of metrics.jsonl."""
    return {
        "step": step,
        "positive": 5 - step / 100,
        "negative_kl": 0.3,
        "kl": 0.5,
        "teacher_entropy": float("nan") if step == 100 else 3.5,
        "positive_entropy": None,
        "spread": 0.4,
        "occupied": 40,
        "lr": 1e-3 / step,
        **values,
    }


def full_report(folder: Path) -> ReportData:
    """A report with every part, and with names that a page must not obey."""
    images = smooth_images(sum(COUNTS.values()), SIDE_PX, 3, seed=7)
    parts = np.split(images, np.cumsum(list(COUNTS.values()))[:-1])
    sets = {
        name: labelled_set(folder, f"set-{number}", part)
        for number, (name, part) in enumerate(zip(COUNTS, parts, strict=True))
    }
    rng = np.random.default_rng(0)
    views = ViewSpec(global_px=16, local_px=8, local_views=1)
    config = RunConfig(in_dist=folder / "set-0", out=folder, negatives="rot-in", views=views)
    return ReportData(
        scoring=full_scoring(),
        scores={
            name: rng.normal(0 if name == TEST else 1, 1, count)
            for name, count in COUNTS.items()
            if name != BANK
        },
        sets=sets,
        features={
            name: torch.from_numpy(rng.normal(size=(count, 6)).astype(np.float32))
            for name, count in COUNTS.items()
        },
        reports=[report(50), report(100), report(150)],
        unseen_steps=100,
        run_config={"head": {"prototypes": 256}, "negatives": HOSTILE},
        views=views_of_run(config, sets[BANK], None),
    )


def bare_report(folder: Path) -> ReportData:
    """A report without the parts that may be left out: one gray, unlabelled OOD set, no run."""
    images = smooth_images(30, SIDE_PX, 1, seed=8)
    parts = {BANK: images[:10], TEST: images[10:29], "one": images[29:]}
    sets = {name: ShardSet.open(build_npy_set(folder, name, part)) for name, part in parts.items()}
    scoring = with_provenance(
        made_up_scoring(("one",), baselines=False),
        manifests={name: set_facts(name, number) for number, name in enumerate(parts)},
        checkpoint=None,
        bank_is_training_set=False,
    )
    scoring = replace(scoring, counts={name: len(part) for name, part in parts.items()})
    scores = {TEST: np.arange(19.0), "one": np.array([3.0])}
    return ReportData(
        scoring=with_set(scoring, "one", encoding="png", excluded=1234), scores=scores, sets=sets
    )
