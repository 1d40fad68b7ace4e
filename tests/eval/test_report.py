"""The report as a parser, a decoder and a browser see it."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from dali_pipes.batch import ViewSpec
from eval.audits.shortcuts import STATISTICS
from eval.report import charts, gallery
from eval.report.findings import findings
from eval.report.page import ReportData, page, write_report
from eval.report.views import IMAGES, views_of_run
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.reader import ShardSet
from tests.support.browser import Browser, find_browser
from tests.support.image_sets import build_npy_set, smooth_images
from tests.support.results_cases import interval, made_up_probes, made_up_results
from train.config import RunConfig

HOSTILE = "<script>window.broken = 1</script>"
HOSTILE_CLASS = "\"><img src=x onerror='window.broken = 2'>"
HOSTILE_FILE = "<b onclick=alert(1)>&amp;\u202e"
BANK, TEST = "in-dist-train", "in-dist-test"
SIDE_PX = 16
COUNTS = {BANK: 30, TEST: 23, "svhn": 14, HOSTILE: 9}
VOID = {"meta", "img", "line", "circle", "polyline", "polygon", "br", "hr"}


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


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """Every part, and names that a page must not obey."""
    folder = tmp_path_factory.mktemp("report")
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
        results=full_results(),
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


def full_results(**changes) -> dict:
    names = ("svhn", HOSTILE)
    results = made_up_results(names, probes=made_up_probes(), settings={"precision": "fp32"})
    return {
        **results,
        "counts": COUNTS,
        "bank_size": COUNTS[BANK],
        "shortcuts": {
            name: {
                key: interval(0.52 + number / 40 + i / 1000)
                for number, key in enumerate(STATISTICS)
                if (name, key) != ("svhn", "original-size")  # which it does not know
            }
            for i, name in enumerate(names)
        },
        "overlap": {},
        "manifests": made_up_manifests(COUNTS),
        "versions": {"torch": "2.9"},
        "command": ["RUN", "--out", "a folder"],
        **changes,
    }


def made_up_manifests(names) -> dict:
    how = {"resize": "pillow-bicubic", "encoding": "raw", "excluded": 0}
    return {
        name: {"name": name, "split": "test", "protocol": "", "sha256": f"{i:064x}", **how}
        for i, name in enumerate(names)
    }


def changed_set(results: dict, name: str, **changes) -> dict:
    """`results` with other facts in the manifest of one set."""
    manifests = results["manifests"]
    return {**results, "manifests": {**manifests, name: {**manifests[name], **changes}}}


def report(step: int, **values) -> dict:
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


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """Nothing that may be left out: one gray, unlabelled OOD set, no run."""
    folder = tmp_path_factory.mktemp("bare")
    images = smooth_images(30, SIDE_PX, 1, seed=8)
    parts = {BANK: images[:10], TEST: images[10:29], "one": images[29:]}
    sets = {name: ShardSet.open(build_npy_set(folder, name, part)) for name, part in parts.items()}
    results = full_results(
        **{key: made_up_results(("one",), baselines=False)[key] for key in ("methods", "probes")},
        counts={name: len(part) for name, part in parts.items()},
        manifests=made_up_manifests(parts),
        checkpoint=None,
        bank_is_training_set=False,
    )
    for key in ("shortcuts", "overlap", "command"):
        del results[key]
    results = changed_set(results, "one", encoding="png", excluded=1234)
    scores = {TEST: np.arange(19.0), "one": np.array([3.0])}
    return ReportData(results=results, scores=scores, sets=sets)


# ------------------------------------------------------------------------------------ as a parser


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
    assert not re.search(r"url\(|@import", text)
    assert all(image["alt"] for image in read.of("img"))
    assert all(
        chart.get("aria-label") or chart.get("aria-hidden") or "x" in chart
        for chart in read.of("svg")
    )
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in read.of("a")} <= set(ids)
    assert all(head.get("scope") in ("col", "row") for head in read.of("th"))
    assert [tag for tag, _ in read.tags].count("h1") == 1
    (policy,) = [m["content"] for m in read.of("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'")


def test_names_are_shown_and_not_obeyed(full) -> None:
    read = Reader(page(full))
    for name in (HOSTILE, HOSTILE_CLASS, HOSTILE_FILE.replace("\u202e", r"\u202e")):
        assert name in read.text, name
    assert HOSTILE in read.text.split("Provenance")[-1]  # the set, and the setting of the run
    assert not {"b", "onclick"} & {key for _, a in read.tags for key in a}


def test_every_number_of_the_results_is_there(full) -> None:
    read = Reader(page(full))
    results = full.results
    numbers = [
        metric[end]
        for column in results["methods"]["teacher"]["scores"]["eq6"].values()
        for key, metric in column.items()
        if key != "samples"
        for end in ("value", "low", "high")
    ]
    numbers += [
        column["auroc"]["value"]
        for method in results["methods"].values()
        for columns in method["scores"].values()
        for column in columns.values()
    ]
    probes = results["probes"]
    numbers += [*probes["knn_accuracy"].values(), probes["linear_probe"]]
    numbers += probes["sensitivity"].values()
    for number in numbers:
        assert f"{100 * number:.2f}" in read.text
    for statistics in results["shortcuts"].values():
        for found in statistics.values():
            for end in ("value", "low", "high"):
                assert f"{100 * found[end]:.1f}" in read.text
    facts = ["400 of 4,096", "step 1,234", "a-protocol", "torch", "2.9", "fp32", "a folder"]
    facts += [manifest["sha256"] for manifest in results["manifests"].values()]
    for fact in [*facts, *(statistic.label for statistic in STATISTICS.values())]:
        assert fact in read.text, fact


def test_what_is_not_there_is_left_out(bare) -> None:
    read = Reader(page(bare))
    headings = [heading.get("id") for heading in read.of("h2")]
    assert headings == [
        *("warnings", "looked", "sets", "networks", "curves", "images", "provenance")
    ]
    assert "<details" not in page(bare) and "training images" not in read.text
    assert "an image of one" in read.text and "id\xa00" in read.text


def test_the_same_data_give_the_same_bytes(full, tmp_path) -> None:
    for name in ("a", "b"):
        write_report(tmp_path / name, full)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_folder_whose_name_is_no_text_can_be_written(bare, tmp_path) -> None:
    odd = {**bare.results, "protocol": "caf\udce9"}
    write_report(tmp_path / "report.html", dataclasses.replace(bare, results=odd))
    assert r"caf\udce9" in (tmp_path / "report.html").read_text(encoding="utf-8")


# ----------------------------------------------------------------------------- what speaks against


def test_nothing_speaks_against_a_good_run(full) -> None:
    good = dataclasses.replace(full, results=large(full.results))
    assert findings(good.results, full.reports, 100).warnings == []
    assert "Before relying on it" not in page(good)


def large(results: dict) -> dict:
    """The same of so many images that intervals are narrow."""
    counts = {name: 50_000 for name in results["counts"]}
    return {**results, "counts": {**counts, BANK: COUNTS[BANK]}}


def changed_auroc(results: dict, method: str, column: str, value: float, score="eq6") -> dict:
    copy = json.loads(json.dumps(results))
    scores = copy["methods"][method]["scores"]
    scores.setdefault(score, json.loads(json.dumps(scores["eq6"])))
    scores[score][column]["auroc"] = interval(value)
    return copy


def without(results: dict, key: str) -> dict:
    return {name: value for name, value in results.items() if name != key}


TOLD = {"collapse": "all alike; try less"}


@pytest.mark.parametrize(
    ("change", "reports", "expected"),
    [
        (
            lambda r: changed_auroc(r, "pixel", "mean", 0.93),
            [],
            "pixel cosine is better: ",
        ),
        (
            lambda r: changed_auroc(r, "untrained", "mean", 0.97, "knn-5"),
            [],
            "untrained network is better: its mean AUROC is 97.00 % by 5-th nearest "
            "neighbour, the headline's 92.50 %",
        ),
        (lambda r: changed_auroc(r, "teacher", "svhn", 0.3), [], "AUROC of svhn is 30.0 %, below"),
        (
            lambda r: changed_auroc(r, "teacher", "svhn", 0.505),
            [],
            "AUROC that may be chance, 50 % being in the interval: svhn 50.5 % (49.5\u201351.5)",
        ),
        (lambda r: r, [report(1), report(2, warnings=TOLD)], "collapse (step 2): all alike"),
        (lambda r: r, [report(2, warnings=TOLD)] * 3, "collapse (3 reports from step 2 to 2): all"),
        (
            lambda r: changed_auroc(r, "teacher", "mean", 0.95, "mahalanobis"),
            [],
            "trained teacher is better by another score: its mean AUROC is 95.00 % by Mahalanobis",
        ),
        (lambda r: {**r, "overlap": {"a and b": 7}}, [], "7 images are in both a and b"),
        (lambda r: {**r, "bank_is_training_set": False}, [], "bank is not the set"),
        (lambda r: {**r, "equal_images": ["svhn"]}, [], "All 50,000 images of svhn are equal"),
        (
            lambda r: {**r, "counts": {**r["counts"], "svhn": 3}},
            [],
            "3 images of svhn: an AUROC of",
        ),
        (
            lambda r: changed_set(r, "svhn", resize="none", encoding="jpg"),
            [],
            "Images of svhn are not resized and stored as JPEG, in-distribution test images "
            "resized by pillow-bicubic: that alone may tell them apart",
        ),
        (
            lambda r: changed_set(
                changed_set(r, "svhn", background="#000000"), "in-dist-test", background="#ffffff"
            ),
            [],
            "svhn was built with background #000000 (transparent images), the "
            "in-distribution test set with #ffffff",
        ),
        (
            lambda r: {**r, "shortcuts": {"svhn": {"contrast": interval(0.97)}, HOSTILE: {}}},
            [],
            "Sets can be told apart by contrast alone",
        ),
    ],
)
def test_each_thing_that_speaks_against_the_headline_is_told(change, reports, expected) -> None:
    found = findings(change(large(full_results())), reports, 0)
    assert [line for line in found.warnings if expected in line], found


@pytest.mark.parametrize(
    ("change", "expected", "not_clean"),
    [
        (
            lambda r: changed_auroc(r, "pixel", "svhn", 0.95, "mahalanobis"),
            "pixel cosine is at least as good on svhn, by Mahalanobis (SSD)",
            "-",
        ),
        (
            lambda r: changed_auroc(r, "teacher", "mean", 0.93, "entropy"),
            "trained teacher is better by another score: its mean AUROC is 93.00 % by entropy of "
            "prototypes, the headline's 92.50 % by Eq. 6 (paper)",
            "no other score",
        ),
        (
            lambda r: without(r, "overlap"),
            "Nobody looked whether",
            "image",
        ),
        (lambda r: without(r, "shortcuts"), "Nobody looked at", "trivial"),
        (lambda r: {**r, "shortcuts": {"svhn": {}, HOSTILE: {}}}, "statistics of svhn", "trivial"),
        (lambda r: {**r, "manifests": {}}, "nobody looked at images that sets share", "pixel"),
        (
            lambda r: {**r, "methods": {"teacher": r["methods"]["teacher"]}},
            "No other network was scored",
            "no other network",
        ),
        (lambda r: {**r, "counts": {**r["counts"], "svhn": 150}}, "150 images of svhn", "-"),
        (
            lambda r: {
                **changed_auroc(changed_auroc(r, "teacher", "svhn", 0.55), "pixel", "svhn", 0.5),
                "shortcuts": {
                    "svhn": {"contrast": interval(0.579)},
                    HOSTILE: {"contrast": interval(0.5)},
                },
            },
            "no better than contrast alone where neither tells much",
            "trivial",
        ),
    ],
)
def test_what_weighs_less_or_was_not_looked_at_is_told_below(change, expected, not_clean) -> None:
    found = findings(change(large(full_results())), [report(5)], 1)
    assert [line for line in found.notes if expected in line], found
    assert found.warnings == []
    assert not [line for line in found.clean if not_clean in line], found.clean


@pytest.mark.parametrize(
    ("reports", "unseen", "told"),
    [
        ([], None, "no reports of its training"),
        ([report(5)], None, "no reports of its training"),
        ([report(50)], 200, "Nobody looked for collapse: the monitor begins after step 200, and"),
        ([report(200)], 200, "Nobody looked for collapse"),
    ],
)
def test_a_monitor_that_did_not_look_is_not_called_clean(full, reports, unseen, told) -> None:
    found = findings(large(full.results), reports, unseen)
    assert any(told in line for line in found.notes), found
    assert not [line for line in found.clean if "monitor" in line]
    seen = findings(large(full.results), [report(201)], 200)
    assert "the health monitor, which looked after step 200, had no warnings" in seen.clean
    shown = dataclasses.replace(full, results=large(full.results), reports=reports)
    text = Reader(page(dataclasses.replace(shown, unseen_steps=unseen))).text
    assert "had no warnings" not in text


def test_nothing_is_called_clean_of_sets_that_say_next_to_nothing() -> None:
    results = large(full_results())
    assert any("trivial" in line for line in findings(results).clean)
    few_images = {**results, "counts": {**results["counts"], TEST: 3}}
    assert not any("trivial" in line for line in findings(few_images).clean)


def test_the_calm_words_are_those_that_the_tables_bear_out(full) -> None:
    """Whatever scores the networks have: nothing is called worse that is not."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        results = large(full_results())
        for method in results["methods"].values():
            for columns in method["scores"].values():
                for column in columns.values():
                    column["auroc"] = interval(round(rng.uniform(0.85, 0.95), 2))
        means = {
            (method, score): columns["mean"]["auroc"]["value"]
            for method, of_method in results["methods"].items()
            for score, columns in of_method["scores"].items()
        }
        own = means.pop(("teacher", "eq6"))
        others = max(mean for (method, _), mean in means.items() if method != "teacher")
        own_others = max(mean for (method, _), mean in means.items() if method == "teacher")
        clean = " ".join(findings(results, [report(5)], 1).clean)
        assert ("no other network has" in clean) == (others < own)
        assert ("no other score of" in clean) == (own_others <= own)


def test_warnings_come_by_weight() -> None:
    results = {**large(full_results()), "overlap": {"a and b": 7}, "equal_images": ["svhn"]}
    results = changed_auroc(results, "pixel", "mean", 0.99)
    results = changed_set(results, "svhn", resize="none")
    results["shortcuts"] = {
        "svhn": {"contrast": interval(0.93)},
        HOSTILE: {"brightness": interval(0.96)},
    }
    told = findings(results, [report(2, warnings=TOLD)], 1).warnings
    words = ("equal", "say", "both a and b", "collapse", "pixel", "96.0 %", "93.0 %", "resized")
    places = [next(i for i, line in enumerate(told) if word in line) for word in words[:1]]
    places += [next(i for i, line in enumerate(told) if word in line) for word in words[2:]]
    assert places == sorted(places)


def test_the_interval_says_what_it_leaves_out(full) -> None:
    header = page(full).split("</header>")[0]
    assert "What another training run (another seed) would change is not in it" in header


def test_sets_whose_pixels_came_about_in_one_way_are_told_together(full) -> None:
    results = large(full.results)
    same = changed_set(results, "svhn", encoding="png")
    assert findings(same).warnings == []  # the same pixels
    assert findings(changed_set(results, BANK, resize="none")).warnings == []
    (line,) = findings(changed_set(results, TEST, resize="none")).warnings
    assert line == (
        f"Images of svhn, {HOSTILE} are resized by pillow-bicubic, in-distribution test images "
        "not resized: that alone may tell them apart"
    )


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


def test_the_table_of_sets_has_a_column_for_how_pixels_came_about_only_if_that_differs(
    full,
) -> None:
    header, rows, below = cells_of_sets(full)
    narrow = ["set", "images", "built as", "protocol", "sha256 of the manifest"]
    assert header == narrow and below == "Every set: resize pillow-bicubic, encoding raw."
    results = changed_set(full.results, "svhn", encoding="png", excluded=1200)
    results = changed_set(results, BANK, resize="none")
    header, rows, _ = cells_of_sets(dataclasses.replace(full, results=results))
    assert header == [*narrow[:4], "resize, encoding", narrow[4]]
    assert [row[4] for row in rows] == [
        *("* none, raw", "pillow-bicubic, raw", "* pillow-bicubic, png", "pillow-bicubic, raw")
    ]
    assert [row[2] for row in rows][1:3] == [f"{TEST}, test", "svhn, test; 1,200 images excluded"]


def test_both_commands_are_there_if_the_run_tells_its_own(full) -> None:
    trained = f"python train/main.py auto --out {HOSTILE}"
    results = {**full.results, "settings": {"training_command": trained, "aux": None}}
    read = Reader(page(dataclasses.replace(full, results=results)))
    told = read.text.split("how to have them again.")[1]
    assert told.lstrip().startswith(f"{trained}\npython eval/score.py RUN --out 'a folder'\n")
    assert "training_command" not in read.text and not [a for t, a in read.tags if t == "script"]
    alone = Reader(page(full)).text.split("how to have them again.")[1]
    assert alone.lstrip().startswith("python eval/score.py RUN")


# -------------------------------------------------------------------------------------- the images


def shown(data: ReportData) -> dict[str, list[tuple[str, np.ndarray, list]]]:
    """Heading of a set -> (score, pixels, [(cosine, pixels) of neighbours]), as in the page."""
    sections = page(data).split('<div class="set">')[1:]
    found = {}
    for section in sections:
        name = re.search("<h3>(.*?)</h3>", section)[1]
        cards = re.split(r'class="card"', section)[1:]
        found[name] = [
            [
                (float(value.replace("\N{MINUS SIGN}", "-")), pixels_of(uri))
                for uri, value in re.findall(
                    r'src="data:image/png;base64,(.*?)".*?<b>(.*?)</b>', card, re.S
                )
            ]
            for card in cards
        ]
    return found


def pixels_of(encoded: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


def test_the_images_are_those_at_both_ends_with_their_nearest_training_images(full) -> None:
    found = shown(full)
    assert list(found) == [
        "in-distribution test",
        "svhn",
        HOSTILE.replace("<", "&lt;").replace(">", "&gt;"),
    ]
    bank = full.features[BANK].numpy().astype(np.float64)
    for (name, scores), cards in zip(full.scores.items(), found.values(), strict=True):
        order = np.argsort(scores)
        count = min(6, (len(scores) + 1) // 2)
        ids = [*order[::-1][:count], *order[: min(6, len(scores) // 2)]]
        assert len(cards) == len(ids)
        for card, i in zip(cards, ids, strict=True):
            (score, pixels), *near = card
            assert score == pytest.approx(scores[i], abs=0.0051)
            np.testing.assert_array_equal(pixels, full.sets[name].read(np.array([i]))[0])
            query = full.features[name][i].numpy().astype(np.float64)
            cosines = bank @ query / np.linalg.norm(bank, axis=1) / np.linalg.norm(query)
            nearest = np.argsort(-cosines)[:5]
            assert [value for value, _ in near] == pytest.approx(cosines[nearest], abs=6e-4)
            np.testing.assert_array_equal([p for _, p in near], full.sets[BANK].read(nearest))


def test_gray_images_are_kept_and_no_image_is_at_both_ends(bare) -> None:
    found = shown(bare)
    (card,) = found["one"]
    np.testing.assert_array_equal(card[0][1], bare.sets["one"].read(np.array([0]))[0, ..., 0])
    assert [card[0][0] for card in found["in-distribution test"]] == [*range(18, 12, -1), *range(6)]


def test_a_large_image_becomes_a_small_jpeg() -> None:
    picture = gallery.picture(Image.fromarray(smooth_images(1, 200, 3, seed=1)[0]))
    kind, encoded = picture.uri.split(",")
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert kind == "data:image/jpeg;base64" and image.size == (112, 112)
    assert not picture.is_small and len(encoded) < 12_000


def test_the_views_begin_with_the_images_themselves(full) -> None:
    titles = [title for title, _ in full.views]
    assert titles == ["input image", "global 1", "global 2", "local 1", "rot-in", "- local"]
    assert {len(pictures) for _, pictures in full.views} == {IMAGES}
    images = full.sets[BANK].read(np.arange(COUNTS[BANK]))
    for source in full.views[0][1]:
        assert (images == np.asarray(source)).all((1, 2, 3)).sum() == 1
    assert page(full).count('alt="rot-in of image 3"') == 1


# ------------------------------------------------------------------------------------ the drawings


@pytest.mark.parametrize("decimals", [6, 1])
def test_the_roc_curve_is_that_of_scikit_learn(decimals) -> None:
    rng = np.random.default_rng(0)
    in_dist, ood = rng.normal(0, 1, 70).round(decimals), rng.normal(1, 1, 50).round(decimals)
    values, is_ood = np.concatenate([in_dist, ood]), np.arange(120) >= 70
    false_positive, true_positive = charts.roc_points(in_dist, ood)
    expected = roc_curve(is_ood, values, drop_intermediate=False)[:2]
    assert {*zip(false_positive.round(9), true_positive.round(9), strict=True)} <= {
        *zip(*(rates.round(9) for rates in expected), strict=True)
    }
    area = float(np.trapezoid(true_positive, false_positive))
    assert area == pytest.approx(roc_auc_score(is_ood, values), abs=1e-12)


def test_a_long_roc_curve_is_thinned_and_keeps_its_shape() -> None:
    rng = np.random.default_rng(0)
    in_dist, ood = rng.normal(0, 1, 20_000), rng.normal(1, 1, 20_000)
    false_positive, true_positive = charts.roc_points(in_dist, ood)
    assert len(false_positive) <= charts.CURVE_POINTS
    assert (false_positive[0], true_positive[0]) == (0, 0)
    assert (false_positive[-1], true_positive[-1]) == (1, 1)
    exact = roc_auc_score(np.arange(40_000) >= 20_000, np.concatenate([in_dist, ood]))
    assert np.trapezoid(true_positive, false_positive) == pytest.approx(exact, abs=2e-4)


def polygon(svg: str, kind: str) -> np.ndarray:
    return points(re.search(rf'class="area {kind}" points="(.*?)"', svg)[1])


def points(text: str) -> np.ndarray:
    """[P, 2] of "x,y x,y ...", down from the top."""
    return np.array([[float(v) for v in point.split(",")] for point in text.split()])


def test_the_heights_of_a_histogram_are_shares_of_its_own_images() -> None:
    in_dist, ood = np.array([0.0, 0, 0, 1]), np.array([1.0, 1])
    edges = np.array([0.0, 0.5, 1.0])
    svg = str(charts.histogram("title", edges, in_dist, ood))
    bottom = polygon(svg, "ood")[0, 1]
    top = polygon(svg, "ood")[:, 1].min()  # 100 % of the OOD images in one bin
    share = (bottom - polygon(svg, "in-dist")[:, 1]) / (bottom - top)
    np.testing.assert_allclose(share, [0, 0.75, 0.75, 0.25, 0.25, 0], atol=1e-3)
    np.testing.assert_allclose(
        (bottom - polygon(svg, "ood")[:, 1]) / (bottom - top), [0, 0, 0, 1, 1, 0], atol=1e-3
    )


def test_each_curve_and_histogram_is_of_the_set_that_is_named(full) -> None:
    text = page(full)
    names = ["svhn", HOSTILE]
    legend = text.split('<ul class="legend">')[1].split("</ul>")[0]
    kinds = re.findall(r'class="line (c\d)"', legend)
    assert [name for name in re.findall("</svg>(.*?) <span", legend)] == [
        name.replace("<", "&lt;").replace(">", "&gt;") for name in names
    ]
    whole = re.search(r"<figcaption>Whole</figcaption>(.*?)</figure>", text, re.S)[1]
    figures = text.split('<div class="charts">')[1].split("</section>")[0].split("<figure>")[1:]
    edges = np.histogram_bin_edges(np.concatenate([*full.scores.values()]), charts.BINS)
    for name, kind, figure in zip(names, kinds, figures, strict=True):
        curve = points(re.search(rf'class="line {kind}" points="(.*?)"', whole)[1])
        (left, bottom), (right, top) = curve[0], curve[-1]
        area = np.trapezoid((bottom - curve[:, 1]) / (bottom - top), curve[:, 0]) / (right - left)
        both = [full.scores[TEST], full.scores[name]]
        is_ood = np.repeat([False, True], [len(scores) for scores in both])
        assert area == pytest.approx(roc_auc_score(is_ood, np.concatenate(both)), abs=2e-3)
        for kind_of_set, scores in zip(("in-dist", "ood"), both, strict=True):
            shares = np.histogram(scores, edges)[0] / len(scores)
            heights = polygon(figure, kind_of_set)
            heights = heights[0, 1] - heights[1:-1:2, 1]
            np.testing.assert_allclose(heights / heights.max(), shares / shares.max(), atol=4e-3)


@pytest.mark.parametrize(
    ("low", "high"), [(-25.3, -17.1), (0, 1152), (0, 1e-3), (0, 0.37), (3, 3), (-1e-6, 1e-6)]
)
def test_ticks_are_round_numbers_within_the_axis(low, high) -> None:
    axis = charts.axis_over(low, high)
    assert 2 <= len(axis.ticks) <= 9
    assert axis.low <= min(axis.ticks) + 1e-9 and max(axis.ticks) <= axis.high + 1e-9
    steps = np.diff(axis.ticks)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-6


# ------------------------------------------------------------------------------------ as a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium on this machine")
    with Browser(executable, tmp_path_factory.mktemp("profile")) as started:
        yield started


WITHIN = "document.documentElement.scrollWidth"
CONTRASTS = """
(() => {
  const light = (text) => {
    const parts = text.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
    if (!own || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(node.closest("svg") ? style.fill : style.color), light(behind(node))];
    found.push((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return Math.min(...found);
})()
"""


@pytest.mark.parametrize("which", ["full", "bare"])
@pytest.mark.parametrize(("width_px", "dark"), [(390, False), (1200, True)])
def test_a_browser_shows_it(browser, which, width_px, dark, tmp_path, request) -> None:
    path = tmp_path / "report.html"
    write_report(path, request.getfixturevalue(which))
    browser.open(path, width_px, dark=dark)
    assert browser.complaints == []
    assert [u for u in browser.requests if not u.startswith("data:image/")] == [path.as_uri()]
    assert browser.run(WITHIN) <= width_px
    assert browser.run("typeof window.broken") == "undefined"
    assert browser.run("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert browser.run(CONTRASTS) >= 4.5
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 150) == dark


def test_neighbours_open_with_the_keyboard(browser, full, tmp_path) -> None:
    write_report(tmp_path / "report.html", full)
    browser.open(tmp_path / "report.html", 390)
    card = "document.querySelectorAll('details.card:not([open])')[0]"
    browser.run(f"window.card = {card}; card.querySelector('summary').focus()")
    assert not browser.run("card.querySelector('ol').checkVisibility()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r")
    assert browser.run("card.open && card.querySelector('ol').checkVisibility()")
    assert browser.run(WITHIN) <= 390


def test_it_prints_on_a_few_pages(browser, full, tmp_path) -> None:
    write_report(tmp_path / "report.html", full)
    browser.open(tmp_path / "report.html", 1200, dark=True)
    pages = len(re.findall(rb"/Type\s*/Page\b", browser.pdf()))
    assert 3 <= pages <= 12
