"""The AUROC table, in Markdown and on the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from eval.table import print_table, to_markdown


def results(names=("svhn", "lsun"), baselines=True):
    def aurocs(start):
        values = {n: {"auroc": start + i / 100, "samples": 1500} for i, n in enumerate(names)}
        return {**values, "all": {"auroc": start + 0.5 / 100, "samples": 1500 * len(names)}}

    pixel = aurocs(0.61)
    pixel[names[0]]["auroc"] = 0.99994  # prints as 99.99; so does the teacher's 0.99986
    teacher = aurocs(0.92)
    teacher[names[0]]["auroc"] = 0.99986
    return {
        "sets": teacher,
        "baselines": {"untrained": aurocs(0.7), "pixel": pixel} if baselines else {},
        "counts": {"in-dist-train": 50000, "in-dist-test": 10000, **dict.fromkeys(names, 1500)},
        "bank_is_training_set": True,
        "tau": 0.04,
        "protocol": "a-protocol",
        "checkpoint": {"step": 1234, "sha256": "ab"},
    }


def test_markdown():
    table, notes = to_markdown(results()).split("\n\n")
    assert table.splitlines() == [
        "| method | svhn | lsun | all |",
        "|---|---:|---:|---:|",
        "| pixel cosine | **99.99** | 62.00 | 61.50 |",
        "| untrained network | 70.00 | 71.00 | 70.50 |",
        "| trained teacher | **99.99** | **93.00** | **92.50** |",
    ]
    for fact in (
        "higher score is more OOD",
        "test images: 10,000.",
        "svhn 1,500, lsun 1,500; all 3,000.",
        "Bank: 50,000",
        "tau 0.04",
        "Protocol: a-protocol",
        "step 1,234",
    ):
        assert fact in notes


def test_without_baselines_there_is_one_row():
    lines = to_markdown(results(baselines=False)).splitlines()
    assert lines[2:4] == ["| trained teacher | **99.99** | **93.00** | **92.50** |", ""]


def test_a_bar_in_a_name_does_not_make_a_column():
    assert r"| method | a\|b | all |" in to_markdown(results(names=("a|b",)))


NAMES = ("cifar100", "svhn", "imagenet30", "tiny-imagenet", "lsun", "stl10", "places", "[dtd]")


@pytest.mark.parametrize(("width", "tables"), [(120, 1), (80, 1), (79, 2), (40, 3)])
def test_terminal_shows_every_number_whole(width, tables):
    shown = io.StringIO()
    print_table(results(NAMES), Console(file=shown, width=width))
    text = shown.getvalue()
    lines = [line.split()[2:] for line in text.splitlines() if "trained teacher" in line]
    assert len(lines) == tables
    assert sum(lines, []) == "99.99 93.00 94.00 95.00 96.00 97.00 98.00 99.00 92.50".split()
    assert "pixel cosine" in text and "untrained network" in text and "[dtd]" in text


def test_100_percent_is_better_than_99():
    perfect = results()
    perfect["sets"]["all"]["auroc"] = 1.0
    perfect["baselines"]["pixel"]["all"]["auroc"] = 0.99
    assert "| **100.00** |" in to_markdown(perfect) and "| 99.00 |" in to_markdown(perfect)


def test_terminal_fits_100_percent():
    perfect = results(NAMES)
    for values in perfect["sets"].values():
        values["auroc"] = 1.0
    shown = io.StringIO()
    print_table(perfect, Console(file=shown, width=80))
    assert shown.getvalue().count("100.00") == 9


def test_terminal_marks_the_best():
    shown = io.StringIO()
    print_table(results(), Console(file=shown, width=80, force_terminal=True))
    bold = "\x1b[1m"
    assert f"{bold}93.00" in shown.getvalue() and f"{bold}99.99" in shown.getvalue()
    assert f"{bold}71.00" not in shown.getvalue()
