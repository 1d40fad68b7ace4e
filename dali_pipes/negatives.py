"""The negatives: which images they are made of, and how they are shifted (paper, section 4.1).

A strategy is written as one word of text, the value of `negatives`:

    rot-in                  own images, rotated
    rot                     auxiliary images, rotated: the paper's "Rot. ImgN"
    rot-in+rot              both, each with its own views; also called `combined`
    rot-in|pixperm-in       one of the two for each image, as likely
    3*rot-in|pixperm-in     the first thrice as often
    rot-in|perm-16-in+aux   such a mix, and auxiliary images as they are
    none                    no negatives: plain DINO

`+` adds a source: one global and N local negative views of each image more. `|` mixes within a
source: each image takes one of the terms at a step, for all its views of that step, by weight. A
term is a name of `dali_pipes/shifts/table.py`:

    aux                         auxiliary images as they are
    rot, rot90x4                turned by 90, 180 or 270 degrees; `rot90x4` also by 0
    rot-any                     turned by any angle, with black corners
    rot-any-early               the same, before the view's colours change and it is blurred
    perm-4, perm-9, perm-16...  cut into so many equal squares, in a random order
    pixperm                     all pixels in a random order
    cutperm                     top and bottom halves swapped, left and right halves, or both
    blur                        blurred, strongly

made of auxiliary images, or with `-in` at its end of in-distribution images (all but `aux`). The
parameters of a term (which turn, which order) are drawn anew for every view.

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
"""Which of a source's terms: those whose shift is `early`, the others, or all."""

CHOICE = "choice"
"""Name, among a source's parameters, of the number of each image's alternative: int32 [B]."""


@dataclass(frozen=True)
class Alternative:
    """A term: images of one stream, shifted."""

    stream: Stream
    shift: str
    """A name that `shift_named` takes."""
    weight: float = 1.0
    """Share of the images of its source: above 0, at most 1."""

    @property
    def name(self) -> str:
        """The term without its weight."""
        return self.shift + ("-in" if self.stream == "in-dist" else "")


@dataclass(frozen=True)
class NegativeSource:
    """What gives one global and N local negative views of each of B images.

    The parameters of a view are those of all alternatives, each name after the alternative's
    number and a dot ("0.turns"), and with more than one alternative also `CHOICE`.
    """

    alternatives: tuple[Alternative, ...]
    """Their weights sum to 1."""

    @property
    def name(self) -> str:
        """The terms as `parse_negatives` takes them, with their shares where they differ."""
        terms = self.alternatives
        if len({term.weight for term in terms}) == 1:
            return "|".join(term.name for term in terms)
        return "|".join(f"{term.weight:.3g}*{term.name}" for term in terms)

    @property
    def streams(self) -> frozenset[Stream]:
        """The streams that it reads."""
        return frozenset(term.stream for term in self.alternatives)

    @property
    def early(self) -> bool:
        """Whether a term shifts the resized crop, before colours and blur."""
        return bool(self._terms("early"))

    def choose(self, rng: np.random.Generator, batch: int) -> np.ndarray:
        """The number of the alternative of each image at a step: int32 [B]."""
        weights = [term.weight for term in self.alternatives]
        return rng.choice(len(weights), batch, p=weights).astype(np.int32)

    def draw(self, rng: np.random.Generator, batch: int, side_px: int) -> Params:
        """The parameters, but for `CHOICE`, of one view of each image.

        Raises:
            UserError: views of `side_px` pixels cannot be cut as an alternative asks.
        """
        return {
            f"{number}.{name}": values
            for number, term in enumerate(self.alternatives)
            for name, values in shift_named(term.shift).draw(rng, batch, side_px).items()
        }

    def params_of(self, params: Params, part: Part) -> Params:
        """Those of `params` that the terms of a part need."""
        prefixes = tuple(f"{number}." for number, _ in self._terms(part))
        return {
            name: values
            for name, values in params.items()
            if name == CHOICE or name.startswith(prefixes)
        }

    def turns(self, params: Params) -> np.ndarray:
        """Quarter turns of each image, int32, 0 where its alternative is something else.

        In the shape of the parameters, whatever it is; a single 0 where no alternative turns.
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
        """View uint8 HWC, parameters on the CPU -> view uint8 HWC; see `Shift.graph`.

        Images whose term is not of `part` stay as they are.
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
        """Views [B, C, s, s] -> the same, shifted; see `Shift.tensor`.

        Images whose term is not of `part` stay as they are.

        Keep `CHOICE` on the CPU: the rows of an alternative are found there, and a GPU is not
        waited for. With `skip_turns`, all is done but the quarter turns that `turns` gives: where
        that is nothing, the result is the input itself.
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
        """The terms of a part, each with its number."""
        return [
            (number, term)
            for number, term in enumerate(self.alternatives)
            if part == "all" or shift_named(term.shift).early == (part == "early")
        ]


def _own(params: Mapping[str, T], number: int) -> dict[str, T]:
    """The parameters of an alternative, by their names in its shift."""
    prefix = f"{number}."
    return {
        name.removeprefix(prefix): values
        for name, values in params.items()
        if name.startswith(prefix)
    }


def needs_aux(sources: Sequence[NegativeSource]) -> bool:
    """Whether any source reads the auxiliary stream."""
    return any("aux" in source.streams for source in sources)


def parse_negatives(text: str) -> tuple[NegativeSource, ...]:
    """The sources of a strategy; its grammar is at the top of this file.

    Raises:
        UserError: the text is none; the message names it and the term that is wrong.
    """
    if text == "none":
        return ()
    try:
        sources = "rot-in+rot" if text == "combined" else text
        return tuple(_source(source) for source in sources.split("+"))
    except UserError as error:
        raise UserError(f"negatives={text}: {error}") from None


def _source(text: str) -> NegativeSource:
    weights: dict[tuple[Stream, str], float] = {}
    for term in text.split("|"):
        stream, shift, weight = _term(term)
        if (stream, shift) in weights:
            raise UserError(f"{term!r} is a second time in one source; give it a weight")
        weights[stream, shift] = weight
    # Relative to the largest first: a sum of huge weights is infinite.
    largest = max(weights.values())
    total = math.fsum(weight / largest for weight in weights.values())
    return NegativeSource(
        tuple(
            Alternative(stream, shift, weight / largest / total)
            for (stream, shift), weight in weights.items()
        )
    )


def _term(term: str) -> tuple[Stream, str, float]:
    """Stream, shift and weight."""
    weight_text, star, name = term.rpartition("*")
    try:
        weight = float(weight_text) if star else 1.0
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise UserError(f"{term!r} has the weight {weight_text!r}, expected a number above 0")
    name = name.strip()
    if name in ("none", "combined"):
        raise UserError(f"{name!r} stands alone, without + or | or a weight")
    if name == "aux-in":
        raise UserError("'aux-in' would be the positives: shift them, as rot-in does")
    shift = name.removesuffix("-in")
    shift_named(shift)
    return ("aux" if shift == name else "in-dist"), shift, weight
