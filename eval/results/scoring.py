"""The result of one scoring: a `Scoring` in memory, results.json on disk.

A field has the name of its key in results.json. There are two exceptions. The fields of
`provenance` and of `settings.training` lie one level higher in results.json. A probe that could not
be made, and `shortcuts` that is None, have no key in results.json.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from eval.audits.headline_probes import Probes
from eval.config import ENSEMBLE, EQ6
from eval.intervals import Interval
from eval.metrics import Metrics
from eval.results.ensemble_facts import EnsembleFacts
from eval.scores.all_scores import label_of
from eval.sets.opening import BANK, TEST
from shards.errors import UserError
from shards.json_types import check_types, from_json

FORMAT_VERSION = 2
"""Version of the format of results.json. Scorings of OOD sets and of --images have the same
version."""
HIGHER_IS = "ood"
"""Meaning of a higher score: the image is more OOD."""
Columns = dict[str, Metrics]
"""Column of a table -> metrics. A column is an OOD set, `near`, `far`, `mean` (the mean over all
OOD sets) or `all` (the result of all OOD sets pooled into one set)."""


@dataclass(frozen=True)
class NetworkMetrics:
    """The metrics of one network, for each of its scores."""

    label: str
    """Name of the network in tables and figures."""
    feature_dim: int
    scores: dict[str, Columns]
    """Key of a score (see `eval.scores.all_scores`) -> metrics of the score."""


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint whose teacher was scored."""

    step: int
    sha256: str


@dataclass(frozen=True)
class SetFacts:
    """Facts about a set from its manifest (see `shards.manifest.Manifest`)."""

    name: str
    split: str
    protocol: str
    resize: str = ""
    encoding: str = ""
    background: str = ""
    intensity: tuple[float, float] | None = None
    excluded: int = 0
    sha256: str = dataclasses.field(kw_only=True)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The bank, the checkpoint and the sets from which the numbers were computed."""

    protocol: str
    """Name of the protocol that all sets belong to. "custom" if no set has a protocol; "mixed: ..."
    if the sets have different protocols."""
    bank_size: int
    """The number of images in the bank."""
    bank_is_training_set: bool
    """True if the run was trained on the bank."""
    checkpoint: Checkpoint | None
    """The checkpoint that was scored. None if no run was scored."""
    manifests: dict[str, SetFacts]
    """Set -> facts about the set. Empty if only features were scored."""
    overlap: dict[str, int]
    """"A and B" -> number of images that the sets A and B share. Empty if no images are shared."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict of values that can be written as JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Training:
    """The training of the run that was scored."""

    negatives: str
    """Name of the strategy of negatives in the run's configuration."""
    aux: str | None
    """Name of the folder of auxiliary images. None if there were none."""
    training_command: str | None = None
    """Command line of the training. None if it is not known."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options that influence the numbers, apart from the choice of sets and networks."""

    training: Training | None
    """The training of the run. None if no run was scored."""
    precision: str
    batch: int
    k: tuple[int, ...]
    device: str
    ranks: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict of JSON values, beginning with the fields of `training`."""
        fields = dataclasses.asdict(self)
        return {**(fields.pop("training") or {}), **fields}


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """All numbers of one scoring, and what they were computed from."""

    headline: str
    """Key of the headline's network. The headline is the main result: the AUROC of the ensemble, or
    of this network with the score `score`."""
    score: str = EQ6
    """Key of the headline's score: ensemble, or a score of its network."""
    tau: float
    """Temperature tau of Eq. 6 in the paper."""
    counts: dict[str, int]
    """Set -> number of its images. The bank is one of the sets."""
    groups: dict[str, tuple[str, ...]]
    """`near` and `far` -> names of OOD sets. Empty if no set is called near."""
    methods: dict[str, NetworkMetrics]
    """Key of a network -> metrics of the network, in the order of the table's rows."""
    ensemble: EnsembleFacts | None = None
    """The ensemble. None if it is not the headline's score."""
    probes: Probes
    shortcuts: dict[str, dict[str, Interval]] | None = None
    """OOD set -> statistic -> AUROC (see `eval.audits.shortcuts.audit`). None if there are no
    images."""
    provenance: Provenance
    equal_images: tuple[str, ...] = ()
    """Names of the sets whose images are all equal."""
    settings: Settings
    versions: dict[str, str]
    """Package -> version of the package."""
    command: tuple[str, ...]
    """Arguments of the command line."""

    @property
    def headline_network(self) -> NetworkMetrics:
        """The metrics of the network of the headline, for all its scores."""
        return self.methods[self.headline]

    @property
    def headline_columns(self) -> Columns:
        """The metrics of the headline, per column."""
        if self.ensemble is None or self.ensemble.score is None:
            return self.headline_network.scores[self.score]
        return self.ensemble.score

    @property
    def eq6_columns(self) -> Columns:
        """The metrics of the headline's network by Eq. 6, as in the paper, per column."""
        return self.headline_network.scores[EQ6]

    @property
    def headline_label(self) -> str:
        """The name of the headline in tables and texts."""
        if self.ensemble is None:
            return f"{self.headline_network.label}, {label_of(self.score)}"
        return ENSEMBLE

    @property
    def test_images(self) -> int:
        """The number of in-distribution test images that the headline's metrics rest on."""
        return self.counts[TEST] if self.ensemble is None else self.ensemble.evaluation_images

    @property
    def ood_names(self) -> list[str]:
        """Names of the OOD sets, in the order of the columns."""
        return [name for name in self.counts if name not in (BANK, TEST)]

    def to_json(self) -> dict[str, Any]:
        """Return the content of results.json as a dict of values that can be written as JSON."""
        fields = dataclasses.asdict(self)
        probes = {name: value for name, value in fields["probes"].items() if value is not None}
        shortcuts = {} if self.shortcuts is None else {"shortcuts": fields["shortcuts"]}
        return {
            "format_version": FORMAT_VERSION,
            "higher_is": HIGHER_IS,
            **{name: fields[name] for name in ("headline", "score", "tau", "counts", "groups")},
            "methods": fields["methods"],
            "ensemble": fields["ensemble"],
            "probes": probes,
            **shortcuts,
            **fields["provenance"],
            "equal_images": fields["equal_images"],
            "settings": self.settings.to_json(),
            **{name: fields[name] for name in ("versions", "command")},
        }

    @classmethod
    def from_json(cls, content: Any) -> Scoring:
        """Return the scoring that results.json holds. This is the inverse of `to_json`.

        Args:
            content: the parsed content of results.json.

        Raises:
            UserError: the content has another version, was written with --images, or lacks the
                probe `sensitivity`.
            KeyError: the field `probes` or `settings` is missing.
            ValueError: a field is missing, unknown or of another type. The message names the field.
        """
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise UserError(
                f"format_version is {version}, expected {FORMAT_VERSION}; score the run again"
            )
        if "methods" not in content:
            raise UserError("is of --images, not of OOD sets")
        if "sensitivity" not in content["probes"]:
            raise UserError("has no probe sensitivity; score the run again")
        fields = {k: v for k, v in content.items() if k not in ("format_version", "higher_is")}
        fields["provenance"] = _taken_out(fields, Provenance)
        settings = dict(fields["settings"])
        fields["settings"] = {"training": _taken_out(settings, Training) or None, **settings}
        check_types(cls, fields)
        return from_json(cls, fields)


def _taken_out(fields: dict[str, Any], part: type) -> dict[str, Any]:
    """Remove the fields of the dataclass `part` from `fields`, and return the removed fields."""
    names = [field.name for field in dataclasses.fields(part)]
    return {name: fields.pop(name) for name in names if name in fields}
