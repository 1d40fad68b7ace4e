"""Strategies for negatives: which images they use, and which shifts (paper, section 4.1).

A strategy is one word of text, the value of the option `negatives`:

    rot-in                  in-distribution images, rotated
    rot                     auxiliary images, rotated: the paper's "Rot. ImgN"
    rot-in+rot              both, each with its own views; also called `combined`
    rot-in|pixperm-in       one of the two for each image, with equal probability
    3*rot-in|pixperm-in     the first three times as often as the second
    rot-in|perm-16-in+aux   a mix of two, and auxiliary images as they are
    none                    no negatives: plain DINO

`+` separates negative branches. Each branch adds one global and N local negative views of each
image. `|` mixes terms within a branch: at a step, each image takes one of the terms for all its
views, with probabilities proportional to the weights. A term is a name of
`dali_pipes/shifts/table.py`:

    aux                         auxiliary images as they are
    rot, rot90x4                turned by 90, 180 or 270 degrees; `rot90x4` also by 0
    rot-any                     turned by any angle, with black corners
    rot-any-early               the same, but before colour jitter and blur
    perm-4, perm-9, perm-16...  cut into 4, 9, 16... equal squares, in a random order
    pixperm                     all pixels in a random order
    cutperm                     top and bottom halves swapped, left and right halves, or both
    blur                        strongly blurred

A term uses auxiliary images, or in-distribution images if it ends with `-in` (`aux` cannot). The
parameters of a term, such as the turn or the order, are drawn anew for every view.

To add a transformation, see `dali_pipes/shifts/__init__.py`.
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
"""Some of a branch's terms: the terms whose shift is `early`, the other terms, or all."""

CHOICE = "choice"
"""Name of the parameter of a branch that has the number of each image's term: int32 [B]."""


@dataclass(frozen=True)
class Alternative:
    """A term of a strategy: images of one stream, and their shift."""

    stream: Stream
    shift: str
    """Name of the shift, as `shift_named` takes it."""
    weight: float = 1.0
    """Share of the branch's images that take this term: above 0, at most 1."""

    @property
    def name(self) -> str:
        """The term as text, without its weight."""
        return self.shift + ("-in" if self.stream == "in-dist" else "")


@dataclass(frozen=True)
class NegativeBranch:
    """A branch that makes one global and N local negative views of each of B images.

    Its parameters are the parameters of all alternatives. A name is the alternative's number, a
    dot and the name in its shift ("0.turns"). With several alternatives there is also `CHOICE`.
    """

    alternatives: tuple[Alternative, ...]
    """The terms; their weights sum to 1."""

    @property
    def name(self) -> str:
        """The terms as `parse_negatives` takes them, with their weights if these differ."""
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
        """True if a term shifts the resized crop, before colour jitter and blur."""
        return bool(self._terms("early"))

    def choose(self, rng: np.random.Generator, batch: int) -> np.ndarray:
        """Draw the number of the alternative of each image at a step: int32 [B]."""
        weights = [term.weight for term in self.alternatives]
        return rng.choice(len(weights), batch, p=weights).astype(np.int32)

    def draw(self, rng: np.random.Generator, batch: int, side_px: int) -> Params:
        """Draw the parameters of one view of each image, without `CHOICE`.

        Raises:
            UserError: views of `side_px` pixels cannot be cut as an alternative requires.
        """
        return {
            f"{number}.{name}": values
            for number, term in enumerate(self.alternatives)
            for name, values in shift_named(term.shift).draw(rng, batch, side_px).items()
        }

    def params_of(self, params: Params, part: Part) -> Params:
        """Return the parameters that the terms of a part need."""
        prefixes = tuple(f"{number}." for number, _ in self._terms(part))
        return {
            name: values
            for name, values in params.items()
            if name == CHOICE or name.startswith(prefixes)
        }

    def turns(self, params: Params) -> np.ndarray:
        """Return the quarter turns of each image, int32; 0 if its alternative is another shift.

        The shape is that of the parameters, or [] with the value 0 if no alternative turns.
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
        """Shift a view: uint8 HWC, parameters on the CPU -> uint8 HWC; see `Shift.graph`.

        Images whose term does not belong to `part` stay as they are.
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
        """Shift views [B, C, s, s]; see `Shift.tensor`.

        Images whose term does not belong to `part` stay as they are. With `skip_turns` the quarter
        turns of `turns` are left out, and the result is the input itself if there is no other
        shift. Keep `CHOICE` on the CPU: the images of an alternative are found there, so that a
        GPU is not waited for.
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
        """Return the terms of a part, each with its number."""
        return [
            (number, term)
            for number, term in enumerate(self.alternatives)
            if part == "all" or shift_named(term.shift).early == (part == "early")
        ]


def _own(params: Mapping[str, T], number: int) -> dict[str, T]:
    """Return the parameters of an alternative, by their names in its shift."""
    prefix = f"{number}."
    return {
        name.removeprefix(prefix): values
        for name, values in params.items()
        if name.startswith(prefix)
    }


def needs_aux(branches: Sequence[NegativeBranch]) -> bool:
    """Return True if any branch takes images of the auxiliary stream."""
    return any("aux" in branch.streams for branch in branches)


def parse_negatives(text: str) -> tuple[NegativeBranch, ...]:
    """Return the negative branches of a strategy; its grammar is at the top of this file.

    Raises:
        UserError: the text is not a strategy; the message names it and the wrong term.
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
    # Divided by the largest weight first, because the sum of huge weights would be infinite.
    largest = max(weights.values())
    total = math.fsum(weight / largest for weight in weights.values())
    return NegativeBranch(
        tuple(
            Alternative(stream, shift, weight / largest / total)
            for (stream, shift), weight in weights.items()
        )
    )


def _term(term: str) -> tuple[Stream, str, float]:
    """Return the stream, the shift and the weight of a term."""
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
