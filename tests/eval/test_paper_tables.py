"""The numbers of the paper: checked against its printed averages, and found by our set names."""

from __future__ import annotations

import pytest

from eval.results.paper_tables import BASELINES, OURS, cell, data_set, groups_of, name_of, sets_of
from shards.protocols import PROTOCOLS

AVERAGES = {
    "DINO": 89.47,
    "ImgN": 91.66,
    "Rot. ImgN": 94.29,
    "Rot.360 ImgN": 90.09,
    "DTI": 93.34,
    "Perm-16 ImgN": 89.59,
    "Perm-4 ImgN": 87.54,
    "Rot. DTI": 94.89,
    "Pix. Perm.": 88.87,
    "Rot. In-Dist.": 91.96,
}
"""The last row of Table 2."""


def published(in_dist, negatives, ood, aux="imagenet"):
    """Return the paper's AUROC in %, found as the tables find it; None if it has none."""
    row = OURS.get(data_set(in_dist), {}).get(name_of(negatives, aux))
    return cell(in_dist, row, ood)


@pytest.mark.parametrize("negatives", AVERAGES)
def test_table_2_has_the_averages_that_the_paper_prints(negatives):
    row = OURS["cifar10"][negatives]
    assert sum(row) / 8 == pytest.approx(AVERAGES[negatives], abs=0.0051)


def test_gains_that_the_text_names():
    """Section 4.3: gains over the best method without labels (3.57) and with labels (0.96)."""
    assert published("cifar10", "rot", "stl10") - published(
        "cifar10", "none", "stl10"
    ) == pytest.approx(10.79, abs=1e-9)
    assert published("cifar10", "rot", "stl10", aux="dti") - published(
        "cifar10", "none", "stl10"
    ) == pytest.approx(14.99, abs=1e-9)
    near = OURS["cifar10"]["Combined"][0]
    assert near - BASELINES["cifar10"]["SSD"][0] == pytest.approx(3.57, abs=1e-9)
    assert near - BASELINES["cifar10"]["MTL"][0] == pytest.approx(0.96, abs=1e-9)
    lsun = sets_of("cifar100").index("lsun")
    best = max(BASELINES["cifar100"][name][lsun] for name in ("SSD", "CSI"))
    assert OURS["cifar100"]["Rot. ImgN"][lsun] - best == pytest.approx(5.53, abs=1e-9)


@pytest.mark.parametrize("in_dist", ["cifar10", "cifar100"])
def test_every_set_of_the_protocol_has_a_number(in_dist):
    other = "cifar100-test" if in_dist == "cifar10" else "cifar10-test"
    names = [one.name for one in PROTOCOLS["icann22"].sets if one.role == "ood"]
    for negatives in ("rot", "combined"):
        row = [published(f"{in_dist}-test", negatives, name) for name in [other, *names]]
        assert row == list(OURS[in_dist]["Rot. ImgN" if negatives == "rot" else "Combined"])


def test_what_the_paper_does_not_have_is_none():
    assert published("cifar10", "rot", "cifar10-test") is None
    assert published("cifar10", "rot", "lsun-fix") is None
    assert published("cifar100", "rot-in", "svhn") is None
    assert published("cifar10", "blur", "svhn") is None
    assert published("cifar10", "rot", "svhn", aux="my-photos") is None
    assert published("in-dist-test", "rot", "svhn") is None


def test_what_needs_no_auxiliary_images_does_not_depend_on_them():
    assert name_of("none", "dti") == name_of("none") == "DINO"
    assert published("cifar10", "rot-in", "svhn", aux="my-photos") == 99.92


def test_near_is_the_other_cifar():
    names = ["svhn", "cifar100-test", "lsun"]
    expected = {"near": ["cifar100-test"], "far": ["svhn", "lsun"]}
    assert groups_of("icann22", "cifar10-test", names) == expected
    assert groups_of("csi20", "cifar10-test", ["cifar100", "svhn"])["near"] == ["cifar100"]
    of_cifar100 = groups_of("icann22", "cifar100-train", ["cifar10-test", "svhn"])
    assert of_cifar100["near"] == ["cifar10-test"]


def test_no_groups_where_nothing_or_all_is_called_near():
    assert groups_of("icann22", "cifar10-test", ["cifar100-test"]) == {}
    assert groups_of("icann22", "cifar10-test", ["svhn"]) == {}
    assert groups_of("fashion-footwear", "in-dist-test", ["shirt", "bag"]) == {}
    assert groups_of("custom", "cifar10-test", ["cifar100-test"]) == {}
    assert groups_of("oe19", "svhn-train", ["cifar10-test"]) == {}
