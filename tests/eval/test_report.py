"""The page of a report as a parser sees it: complete, safe, readable, with every number."""

from __future__ import annotations

import re
from dataclasses import astuple, replace

import pytest

from eval.audits.shortcuts import STATISTICS
from eval.report.page import ReportData, page, write_report
from eval.results.scoring import Training
from tests.support.report_cases import (
    BANK,
    HOSTILE,
    HOSTILE_CLASS,
    HOSTILE_FILE,
    TEST,
    Reader,
    large,
    report,
)
from tests.support.results_cases import with_provenance, with_set


@pytest.mark.slow
@pytest.mark.parametrize("which", ["full", "bare"])
def test_the_page_is_whole_loads_nothing_and_can_be_read_aloud(which, request) -> None:
    text = page(request.getfixturevalue(which))
    read = Reader(text)
    assert "script" not in dict(read.tags) and not [
        k for _, a in read.tags for k in a if k[:2] == "on"
    ]
    for _, attributes in read.tags:
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            target = attributes.get(name, "#")
            assert target.startswith(("#", "data:image/")), target
    assert not re.search(r"url\((?!#)|@import", text)  # drawings refer to parts of themselves
    assert all(image["alt"] for image in read.of("img"))
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in read.of("svg"))
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in read.of("a")} <= set(ids)
    assert all(head.get("scope") in ("col", "row") for head in read.of("th"))
    assert [tag for tag, _ in read.tags].count("h1") == 1
    (policy,) = [m["content"] for m in read.of("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'")


@pytest.mark.slow
def test_names_are_shown_and_not_obeyed(full) -> None:
    read = Reader(page(full))
    for name in (HOSTILE, HOSTILE_CLASS, HOSTILE_FILE.replace("\u202e", r"\u202e")):
        assert name in read.text, name
    assert HOSTILE in read.text.split("Provenance")[-1]  # the set, and the setting of the run
    assert not {"b", "onclick"} & {key for _, a in read.tags for key in a}


@pytest.mark.slow
def test_every_number_of_the_results_is_there(full) -> None:
    read = Reader(page(full))
    scoring = full.scoring
    rates = [
        rate for column in scoring.headline_columns.values() for rate in column.labelled.values()
    ]
    rates.append(scoring.probes.sensitivity)
    numbers = [end for rate in rates for end in astuple(rate)]
    numbers += [
        column.auroc.value
        for network in scoring.methods.values()
        for columns in network.scores.values()
        for column in columns.values()
    ]
    numbers += [*scoring.probes.knn_accuracy.values(), scoring.probes.linear_probe]
    for number in numbers:
        assert f"{100 * number:.2f}" in read.text
    for statistics in scoring.shortcuts.values():
        for rate in statistics.values():
            for end in astuple(rate):
                assert f"{100 * end:.1f}" in read.text
    facts = ["400 of 4,096", "step 1,234", "a-protocol", "torch", "2.9", "fp32", "a folder"]
    facts += [facts_of_set.sha256 for facts_of_set in scoring.provenance.manifests.values()]
    for fact in [*facts, *(statistic.label for statistic in STATISTICS.values())]:
        assert fact in read.text, fact


def test_what_is_not_there_is_left_out(bare) -> None:
    read = Reader(page(bare))
    headings = [heading.get("id") for heading in read.of("h2")]
    assert headings == [
        *("warnings", "looked", "sets", "networks", "curves", "images", "provenance")
    ]
    assert "<details" not in page(bare) and "Nearest training images" not in read.text
    assert "An image of one gets a higher score" in read.text and "id\xa00" in read.text


@pytest.mark.slow
def test_the_same_data_give_the_same_bytes(full, tmp_path) -> None:
    for name in ("a", "b"):
        write_report(tmp_path / name, full)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_folder_whose_name_is_no_text_can_be_written(bare, tmp_path) -> None:
    odd = with_provenance(bare.scoring, protocol="caf\udce9")
    write_report(tmp_path / "report.html", replace(bare, scoring=odd))
    assert r"caf\udce9" in (tmp_path / "report.html").read_text(encoding="utf-8")


def cells_of_sets(data: ReportData) -> tuple[list[str], list[list[str]], str]:
    """Header, rows, and the line below of the table of sets; what is marked has a star."""
    table, below = page(data).split('aria-label="The sets">')[1].split("</table>")[:2]
    rows = [
        [
            ("* " if "alone" in attributes else "") + re.sub("<.*?>", "; ", text).strip("; ")
            for attributes, text in re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", row, re.S)
        ]
        for row in table.split("<tr>")[1:]
    ]
    return rows[0], rows[1:], re.search('<p class="muted">(.*?)</p>', below)[1]


@pytest.mark.slow
def test_the_table_of_sets_has_a_column_for_how_pixels_came_about_only_if_that_differs(
    full,
) -> None:
    header, rows, below = cells_of_sets(full)
    narrow = ["set", "images", "built as", "protocol", "sha256 of the manifest"]
    assert header == narrow and below == "Every set: resize pillow-bicubic, encoding raw."
    scoring = with_set(full.scoring, "svhn", encoding="png", excluded=1200)
    scoring = with_set(scoring, BANK, resize="none")
    header, rows, _ = cells_of_sets(replace(full, scoring=scoring))
    assert header == [*narrow[:4], "resize, encoding", narrow[4]]
    assert [row[4] for row in rows] == [
        *("* none, raw", "pillow-bicubic, raw", "* pillow-bicubic, png", "pillow-bicubic, raw")
    ]
    assert [row[2] for row in rows][1:3] == [f"{TEST}, test", "svhn, test; 1,200 images excluded"]


@pytest.mark.slow
def test_both_commands_are_there_if_the_run_tells_its_own(full) -> None:
    trained = f"python train/main.py auto --out {HOSTILE}"
    settings = replace(full.scoring.settings, training=Training("rot-in", None, trained))
    read = Reader(page(replace(full, scoring=replace(full.scoring, settings=settings))))
    told = read.text.split("commands that reproduce them.")[1]
    assert told.lstrip().startswith(f"{trained}\npython eval/score.py RUN --out 'a folder'\n")
    assert "training_command" not in read.text and not [a for t, a in read.tags if t == "script"]
    alone = Reader(page(full)).text.split("commands that reproduce them.")[1]
    assert alone.lstrip().startswith("python eval/score.py RUN")


@pytest.mark.slow
def test_the_interval_says_what_it_leaves_out(full) -> None:
    header = page(full).split("</header>")[0]
    assert "Another training run (another seed) may change the AUROC by more" in header


@pytest.mark.slow
def test_a_good_run_has_no_box_of_warnings(full) -> None:
    assert "Before relying on it" not in page(replace(full, scoring=large(full.scoring)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reports", "unseen", "told"),
    [
        ([report(5)], None, "It is not known whether the health monitor looked."),
        ([report(50)], 200, "begins after step 200"),
        ([report(201)], 200, "after step 200. It had no warnings."),
        ([report(201, warnings={"collapse": "try less"})], 200, "collapse (step 201): try less."),
    ],
)
def test_the_training_says_whether_the_monitor_looked(full, reports, unseen, told) -> None:
    data = replace(full, scoring=large(full.scoring), reports=reports, unseen_steps=unseen)
    training = Reader(page(data)).text.split("Training")[-1]
    assert told in training
    assert ("had no warnings" in training) == ("no warnings" in told)
