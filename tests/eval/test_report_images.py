"""The images of a report: which they are, their pixels, and their nearest training images."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from eval.report import gallery
from eval.report.page import ReportData, page
from eval.report.views import IMAGES
from tests.support.image_sets import smooth_images
from tests.support.report_cases import BANK, COUNTS, HOSTILE


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


@pytest.mark.slow
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
