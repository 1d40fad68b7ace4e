"""Strategies for negatives: which images they use, and which shifts (paper, section 4.1).

A strategy is a text without spaces, the value of the option `negatives`. Examples:

    rot-in                  in-distribution images, rotated
    rot                     auxiliary images, rotated (the paper's "Rot. ImgN")
    rot-in+rot              both of the above, each with its own views; also called `combined`
    rot-in|pixperm-in       for each image, one of the two, with equal probability
    3*rot-in|pixperm-in     for each image, one of the two, and the first three times as often
    rot-in|perm-16-in+aux   a mix of two terms, and also unchanged auxiliary images
    none                    no negatives: plain DINO

`+` separates negative branches. Each branch adds one global and N local negative views per image.
`|` separates the terms of a branch. At each step, each image takes one of these terms for all its
views, with probabilities proportional to the weights. A term is one of the following names, which
are defined in `dali_pipes/shifts/table.py`:

    aux                         auxiliary images, unchanged
    rot, rot90x4                turned by 90, 180 or 270 degrees; `rot90x4` also by 0 degrees
    rot-any                     turned by any angle, with black corners
    rot-any-early               the same as `rot-any`, but before colour jitter and blur
    perm-4, perm-9, perm-16...  cut into 4, 9, 16... equal squares, which are put in a random order
    pixperm                     all pixels in a random order
    cutperm                     top and bottom halves swapped, left and right halves, or both
    blur                        strongly blurred

A term uses auxiliary images. If its name ends with `-in`, it uses in-distribution images instead;
only `aux` does not allow this ending. The parameters of a term, such as the angle or the random
order, are drawn anew for every view. To add a transformation, see `dali_pipes/shifts/__init__.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from dali_pipes.shifts.shift import TURNS, Params
from dali_pipes.shifts.table import shift_named
from shards.errors import UserError

if TYPE_CHECKING:  # command lines are checked with this module, before torch is imported
    from nvidia.dali.data_node import DataNode
    from torch import Tensor

Stream = Literal["in-dist", "aux"]
T = TypeVar("T")
Part = Literal["all", "early", "late"]
"""A selection of a branch's terms: "early" = the terms whose shift has `early` True; "late" = the
other terms; "all" = all terms."""

CHOICE = "choice"
"""The name of the parameter that holds, for each image, the number of the term that the image
takes, int32 [B]."""


@dataclass(frozen=True)
class Alternative:
    """A term of a strategy: the stream from which images are taken, and the shift of the images."""

    stream: Stream
    shift: str
    """The name of the shift, as `shift_named` takes it."""
    weight: float = 1.0
    """The probability that an image of the branch takes this term, above 0 and at most 1."""

    @property
    def name(self) -> str:
        """The term as it stands in the text of a strategy, without its weight."""
        return self.shift + ("-in" if self.stream == "in-dist" else "")


@dataclass(frozen=True)
class NegativeBranch:
    """A part of a strategy that makes one global and N local negative views per image.

    The parameters of a branch are the parameters of all its terms. The name of a parameter consists
    of the number of the term, a dot, and the name that the shift gives it, such as "0.turns". A
    branch with several terms also has the parameter `CHOICE`.

    In shapes, B is the number of images per rank, C the number of channels, and s the side of a
    view in pixels.
    """

    alternatives: tuple[Alternative, ...]
    """The terms from which each image takes one; their weights sum to 1."""

    @property
    def name(self) -> str:
        """The branch as text that `parse_negatives` accepts, with the weights if they differ."""
        terms = self.alternatives
        if len({term.weight for term in terms}) == 1:
            return "|".join(term.name for term in terms)
        return "|".join(f"{term.weight:.3g}*{term.name}" for term in terms)

    @property
    def streams(self) -> frozenset[Stream]:
        """The streams from which the branch takes images."""
        return frozenset(term.stream for term in self.alternatives)

    @property
    def early(self) -> bool:
        """True if the shift of any term acts on the resized crop, before colour jitter and blur."""
        return bool(self._terms("early"))

    def choose(self, rng: np.random.Generator, batch: int) -> np.ndarray:
        """Draw the term that each image takes at a step.

        Returns:
            int32 [batch]: the number of the term, an index in `alternatives`.
        """
        weights = [term.weight for term in self.alternatives]
        return rng.choice(len(weights), batch, p=weights).astype(np.int32)

    def draw(self, rng: np.random.Generator, batch: int, side_px: int) -> Params:
        """Draw the parameters of one view per image, for all terms; `CHOICE` is not drawn here.

        Args:
            rng: The random generator.
            batch: The number of images.
            side_px: The side of the views, in pixels.

        Returns:
            Parameter name -> values, [batch, ...].

        Raises:
            UserError: A view of `side_px` pixels cannot be cut into squares as a term requires.
        """
        return {
            f"{number}.{name}": values
            for number, term in enumerate(self.alternatives)
            for name, values in shift_named(term.shift).draw(rng, batch, side_px).items()
        }

    def params_of(self, params: Params, part: Part) -> Params:
        """Return the parameters that the terms of a part need, including `CHOICE`."""
        prefixes = tuple(f"{number}." for number, _ in self._terms(part))
        return {
            name: values
            for name, values in params.items()
            if name == CHOICE or name.startswith(prefixes)
        }

    def turns(self, params: Params) -> np.ndarray:
        """Return the number of quarter turns of each image, int32.

        The number is 0 for an image whose term does not turn by quarter turns. The result has the
        shape of the parameters. If no term of the branch turns, the result is the scalar array 0.
        """
        turns = np.zeros((), np.int32)
        for number in range(len(self.alternatives)):
            own = _own(params, number)
            if TURNS in own:
                turns = np.where(params.get(CHOICE, 0) == number, own[TURNS], turns)
        return turns

    def graph(
        self, view: DataNode, params: Mapping[str, DataNode], side_px: int, part: Part = "all"
    ) -> DataNode:
        """Add the shift of a view to a DALI graph, and return the shifted view; see `Shift.graph`.

        Args:
            view: The view, uint8 [s, s, C].
            params: The parameters of the branch, on the CPU.
            side_px: The side s of the view, in pixels.
            part: The terms that are applied. An image that takes another term is not changed.
        """
        shifted = view
        for number, term in self._terms(part):
            shift, own = shift_named(term.shift), _own(params, number)
            if len(self.alternatives) == 1:
                shifted = shift.graph(view, own, side_px)
            elif params[CHOICE] == number:
                shifted = shift.graph(view, own, side_px)
        return shifted

    def tensor(
        self,
        views: Tensor,
        params: Mapping[str, Tensor],
        black: Tensor,
        *,
        skip_turns: bool = False,
        part: Part = "all",
    ) -> Tensor:
        """Shift views with torch, and return the shifted views; see `Shift.tensor`.

        Args:
            views: The views, [B, C, s, s]. They are not changed. If nothing has to be shifted, the
                result is this tensor itself.
            params: The parameters of the branch, on the device of the views. Only `CHOICE` must be
                on the CPU, so that the images of a term are found without waiting for a GPU.
            black: The value of a black pixel, [C] or [B, C].
            skip_turns: If True, quarter turns are not applied, because the caller applies them.
            part: The terms that are applied. An image that takes another term is not changed.
        """
        from dali_pipes.transfer import to_device

        shifted = views
        for number, term in self._terms(part):
            shift, own = shift_named(term.shift), _own(params, number)
            if skip_turns and TURNS in own:
                continue
            if len(self.alternatives) == 1:
                return shift.tensor(views, own, black)
            chosen = (params[CHOICE].cpu() == number).nonzero().flatten()
            rows = to_device(chosen, views.device)
            shifted = views.clone() if shifted is views else shifted
            shifted[rows] = shift.tensor(
                views[rows],
                {name: values[rows] for name, values in own.items()},
                black[rows] if black.dim() == 2 else black,
            )
        return shifted

    def _terms(self, part: Part) -> list[tuple[int, Alternative]]:
        """Return the terms of a part, each with its index in `alternatives`."""
        return [
            (number, term)
            for number, term in enumerate(self.alternatives)
            if part == "all" or shift_named(term.shift).early == (part == "early")
        ]


def _own(params: Mapping[str, T], number: int) -> dict[str, T]:
    """Return the parameters of the term `number`, under the names that its shift gives them."""
    prefix = f"{number}."
    return {
        name.removeprefix(prefix): values
        for name, values in params.items()
        if name.startswith(prefix)
    }


def needs_aux(branches: Sequence[NegativeBranch]) -> bool:
    """Return True if any branch takes auxiliary images."""
    return any("aux" in branch.streams for branch in branches)


def parse_negatives(text: str) -> tuple[NegativeBranch, ...]:
    """Return the negative branches of a strategy, such as "rot-in+rot".

    The docstring of this file explains the grammar.

    Raises:
        UserError: The text is not a strategy; the message quotes it.
    """
    if text == "none":
        return ()
    try:
        branches = "rot-in+rot" if text == "combined" else text
        return tuple(_branch(branch) for branch in branches.split("+"))
    except UserError as error:
        raise UserError(f"negatives={text}: {error}") from None


def _branch(text: str) -> NegativeBranch:
    weights: dict[tuple[Stream, str], float] = {}
    for term in text.split("|"):
        stream, shift, weight = _term(term)
        if (stream, shift) in weights:
            raise UserError(f"{term!r} occurs twice in one branch; give it a weight instead")
        weights[stream, shift] = weight
    # Each weight is first divided by the largest one, because the sum of huge weights would be
    # infinite.
    largest = max(weights.values())
    total = math.fsum(weight / largest for weight in weights.values())
    return NegativeBranch(
        tuple(
            Alternative(stream, shift, weight / largest / total)
            for (stream, shift), weight in weights.items()
        )
    )


def _term(term: str) -> tuple[Stream, str, float]:
    """Return the stream, the name of the shift, and the weight of a term given as text.

    Raises:
        UserError: The text is not a term.
    """
    weight_text, star, name = term.rpartition("*")
    try:
        weight = float(weight_text) if star else 1.0
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise UserError(f"{term!r} has the weight {weight_text!r}, expected a number above 0")
    name = name.strip()
    if name in ("none", "combined"):
        raise UserError(f"{name!r} stands alone, without +, | or a weight")
    if name == "aux-in":
        raise UserError("'aux-in' would be the positive images; shift them, for example by rot-in")
    shift = name.removesuffix("-in")
    shift_named(shift)
    return ("aux" if shift == name else "in-dist"), shift, weight
