"""Strategies as text, and branches that mix shifts, against the reference of each shift."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dali_pipes.negatives import CHOICE, NegativeBranch, needs_aux, parse_negatives
from dali_pipes.shifts.table import SHIFTS
from shards.errors import UserError
from tests.dali_pipes.test_shifts import (
    REFERENCES,
    SIDE_PX,
    channels_first,
    channels_last,
    check_pixels,
    pictures,
    row_of,
    tensors,
)
from tests.support.view_cases import run_graph

MIX = "2*rot|perm-4-in|aux|rot-any|pixperm-in|cutperm|blur|3*rot90x4-in"


def only(text: str) -> NegativeBranch:
    (branch,) = parse_negatives(text)
    return branch


def mixed(text: str, count: int) -> tuple[NegativeBranch, dict[str, np.ndarray]]:
    """Return a branch, and parameters that choose its alternatives one after the other."""
    branch = only(text)
    params = dict(branch.draw(np.random.default_rng(3), count, SIDE_PX))
    params[CHOICE] = np.arange(count, dtype=np.int32) % len(branch.alternatives)
    return branch, params


def check_mix(branch: NegativeBranch, ours: np.ndarray, images: np.ndarray, params) -> None:
    """Check that each image equals the reference of its alternative."""
    chosen = params.get(CHOICE, np.zeros(len(images), np.int32))
    for number, (image, view, choice) in enumerate(zip(images, ours, chosen, strict=True)):
        name = branch.alternatives[choice].shift
        row = row_of(params, number)
        own = {key.partition(".")[2]: row[key] for key in row if key.startswith(f"{choice}.")}
        reference = REFERENCES[name](image, own).astype(np.float64)
        check_pixels(name, view[None], reference[None], level=1)


@pytest.mark.parametrize(
    ("text", "branches"),
    [
        ("none", []),
        ("aux", ["aux aux 1"]),
        ("rot", ["aux rot 1"]),
        ("rot-in", ["in-dist rot 1"]),
        ("combined", ["in-dist rot 1", "aux rot 1"]),
        ("rot-in+rot", ["in-dist rot 1", "aux rot 1"]),
        ("rot+rot", ["aux rot 1", "aux rot 1"]),
        ("rot-any-in", ["in-dist rot-any 1"]),
        ("perm-16-in+pixperm", ["in-dist perm-16 1", "aux pixperm 1"]),
        ("rot-in|rot", ["in-dist rot 0.5, aux rot 0.5"]),
        ("3*rot-in|cutperm", ["in-dist rot 0.75, aux cutperm 0.25"]),
        (" 3 * rot-in | blur + aux", ["in-dist rot 0.75, aux blur 0.25", "aux aux 1"]),
        ("7*rot90x4", ["aux rot90x4 1"]),
        ("1e-2*rot|3e-2*aux", ["aux rot 0.25, aux aux 0.75"]),
        ("1e308*rot|1e308*aux", ["aux rot 0.5, aux aux 0.5"]),
    ],
)
def test_a_strategy_is_its_branches(text, branches) -> None:
    parsed = [
        ", ".join(f"{term.stream} {term.shift} {term.weight:g}" for term in branch.alternatives)
        for branch in parse_negatives(text)
    ]
    assert parsed == branches
    assert needs_aux(parse_negatives(text)) == any("aux " in branch for branch in branches)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "''"),
        ("rot+", "''"),
        ("+rot", "''"),
        ("rot||aux", "''"),
        ("rotate", "'rotate' is none of aux, rot, rot90x4, .*perm-N .*-in"),
        ("Rot", "'Rot'"),
        ("rot-in-in", "'rot-in'"),
        ("perm-in", "'perm'"),
        ("perm-5", "perm-5"),
        ("rot|perm-8-in", "perm-8"),
        ("aux-in", "aux-in"),
        ("none+rot", "'none' stands alone"),
        ("rot|combined", "'combined' stands alone"),
        ("2*none", "'none' stands alone"),
        ("rot|rot", "'rot' occurs twice"),
        ("rot-in|2*rot-in", r"'2\*rot-in' occurs twice"),
        ("0*rot|aux", "weight '0'"),
        ("-1*rot|aux", "weight '-1'"),
        ("nan*rot|aux", "weight 'nan'"),
        ("inf*rot|aux", "weight 'inf'"),
        ("*rot|aux", "weight ''"),
        ("2*3*rot", r"weight '2\*3'"),
        ("two*rot", "weight 'two'"),
        ("2*", "''"),
    ],
)
def test_a_text_that_is_no_strategy_is_named_with_its_term(text, named) -> None:
    with pytest.raises(UserError, match=named) as caught:
        parse_negatives(text)
    assert str(caught.value).startswith(f"negatives={text}: ")


def test_every_shift_is_a_term_on_both_streams() -> None:
    for name in [*SHIFTS, "perm-25"]:
        (term,) = only(name).alternatives
        assert (term.stream, term.shift, term.name) == ("aux", name, name)
        if name != "aux":
            (term,) = only(f"{name}-in").alternatives
            assert (term.stream, term.shift, term.name) == ("in-dist", name, f"{name}-in")


def test_a_branch_has_its_name_and_streams() -> None:
    assert only("rot-in|2*pixperm").name == "0.333*rot-in|0.667*pixperm"
    assert only("2*rot-in|2*pixperm").name == "rot-in|pixperm"
    assert only("5*rot").name == "rot"
    assert only("rot-in|pixperm").streams == {"in-dist", "aux"}
    assert only("rot-in|pixperm-in").streams == {"in-dist"}


def test_alternatives_are_chosen_by_weight() -> None:
    rng = np.random.default_rng(0)
    branch = only("3*rot-in|aux|4*blur")
    choice = branch.choose(rng, 40_000)
    assert choice.dtype == np.int32
    shares = np.bincount(choice, minlength=3) / len(choice)
    assert np.abs(shares - [3 / 8, 1 / 8, 4 / 8]).max() < 0.01
    assert (choice != branch.choose(rng, 40_000)).any()
    assert (only("rot").choose(rng, 5) == np.zeros(5)).all()


def test_parameters_are_drawn_for_every_alternative() -> None:
    _, params = mixed("rot|perm-9|aux|blur", 8)
    shapes = {name: values.shape for name, values in params.items()}
    assert shapes == {"0.turns": (8,), "1.order": (8, 9), "3.sigma_px": (8,), "choice": (8,)}
    rng = np.random.default_rng(0)
    first, second = (only("rot|rot-in").draw(rng, 100, SIDE_PX) for _ in range(2))
    draws = [*first.values(), *second.values()]
    assert len({values.tobytes() for values in draws}) == 4


def test_views_that_an_alternative_cannot_cut_are_refused() -> None:
    with pytest.raises(UserError, match="28 px cannot be cut into 3 equal parts"):
        only("rot|perm-9").draw(np.random.default_rng(0), 1, 28)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("text", [MIX, "rot-in", "perm-9"])
def test_the_graph_shifts_each_image_as_chosen(text, channels) -> None:
    images = pictures(channels, count=24)
    branch, params = mixed(text, 24)
    if len(branch.alternatives) == 1:
        del params[CHOICE]
    ours = run_graph(images, lambda view, nodes: branch.graph(view, nodes, SIDE_PX), params)
    check_mix(branch, ours, images, params)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("text", [MIX, "rot-in", "perm-9"])
def test_the_tensor_form_shifts_each_image_as_chosen(text, channels) -> None:
    images = pictures(channels, count=24)
    branch, params = mixed(text, 24)
    if len(branch.alternatives) == 1:
        del params[CHOICE]
    views = channels_first(images)
    ours = branch.tensor(views, tensors(params), torch.zeros(channels))
    check_mix(branch, channels_last(ours), images, params)
    assert torch.equal(views, channels_first(images))


def test_an_alternative_that_no_image_takes_does_nothing() -> None:
    images = pictures(3, count=6)
    branch, params = mixed("rot|pixperm|blur", 6)
    params[CHOICE][:] = 1
    ours = run_graph(images, lambda view, nodes: branch.graph(view, nodes, SIDE_PX), params)
    check_mix(branch, ours, images, params)
    ours = branch.tensor(channels_first(images), tensors(params), torch.zeros(3))
    check_mix(branch, channels_last(ours), images, params)


def test_black_follows_its_image() -> None:
    views = torch.full((4, 3, SIDE_PX, SIDE_PX), 99.0)
    black = torch.arange(12.0).view(4, 3)
    params = {
        CHOICE: torch.tensor([0, 1, 0, 1], dtype=torch.int32),
        "0.turns": torch.ones(4, dtype=torch.int32),
        "1.angle_deg": torch.full((4,), 45.0),
    }
    corners = only("rot|rot-any").tensor(views, params, black)[:, :, 0, 0]
    assert torch.equal(corners[1::2], black[1::2]) and (corners[::2] == 99).all()


@pytest.mark.parametrize("text", [MIX, "rot", "rot90x4", "perm-4", "rot|rot90x4-in"])
def test_quarter_turns_can_be_left_to_others(text) -> None:
    """The turns of `turns` and the other shifts of `tensor` together make the whole shift."""
    views, black = channels_first(pictures(3, count=24)), torch.zeros(3)
    branch, params = mixed(text, 24)
    terms = [term.shift in ("rot", "rot90x4") for term in branch.alternatives]
    turning = np.array(terms)[params[CHOICE]]
    turns = branch.turns(params)
    assert turns.dtype == np.int32
    turns = np.broadcast_to(turns, 24)
    assert not turns[~turning].any()
    whole = branch.tensor(views, tensors(params), black)
    rest = branch.tensor(views, tensors(params), black, skip_turns=True)
    assert torch.equal(rest[turning], views[turning])
    assert (rest is views) == all(terms)
    turned = [view.rot90(int(k), (1, 2)) for view, k in zip(rest, turns, strict=True)]
    assert torch.equal(torch.stack(turned), whole)


def test_turns_have_the_shape_of_their_parameters() -> None:
    branch, params = mixed("rot|aux|rot90x4", 24)
    flat = branch.turns(params)
    views = {name: values.reshape(4, 6) for name, values in params.items()}
    assert (branch.turns(views) == flat.reshape(4, 6)).all() and flat.any()
    alone = {"0.turns": np.array([3, 1], np.int32)}
    assert (only("rot").turns(alone) == [3, 1]).all()
