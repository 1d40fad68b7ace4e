"""The result of one scoring: a `Scoring` in memory, results.json on disk.

The fields have the names of the keys in results.json. Three parts are flat there: `provenance` and
`settings.training` lie one level higher, and probes that could not be made have no key.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from eval.audits.headline_probes import Probes
from eval.intervals import Interval
from eval.metrics import Metrics
from eval.scores.all_scores import HEADLINE
from eval.sets.opening import BANK, TEST
from shards.errors import UserError
from shards.json_types import check_types, from_json

FORMAT_VERSION = 2
"""Version of results.json, of OOD sets and of --images."""
HIGHER_IS = "ood"
"""Meaning of a higher score."""
Columns = dict[str, Metrics]
"""Metrics of each column of a table: an OOD set, `near`, `far`, `mean` (over the sets) or `all`
(the sets pooled)."""


@dataclass(frozen=True)
class NetworkMetrics:
    """Metrics of one network, by all its scores."""

    label: str
    """Name that a reader sees."""
    feature_dim: int
    scores: dict[str, Columns]
    """Key of a score (see `eval.scores.all_scores`) -> its metrics."""


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
    """The bank, the checkpoint and the sets behind the numbers."""

    protocol: str
    """Name of the protocol that all sets belong to, "custom", or "mixed: ..."."""
    bank_size: int
    """Number of images in the bank."""
    bank_is_training_set: bool
    """True if the run was trained on the bank."""
    checkpoint: Checkpoint | None
    """None if no run was scored."""
    manifests: dict[str, SetFacts]
    """Facts about each set; empty if only features were scored."""
    overlap: dict[str, int]
    """"A and B" -> number of images that both sets have, if any and if that was allowed."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Training:
    """The training of the run that was scored."""

    negatives: str
    """Strategy of the negatives, as in the run's configuration."""
    aux: str | None
    """Folder name of the auxiliary images, if there were any."""
    training_command: str | None = None
    """Command line of the training; None if it is not known."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options that shape the numbers, besides sets and networks."""

    training: Training | None
    """None if no run was scored."""
    precision: str
    batch: int
    k: tuple[int, ...]
    device: str
    ranks: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with those of `training` first."""
        fields = dataclasses.asdict(self)
        return {**(fields.pop("training") or {}), **fields}


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """All numbers of one scoring, and what they were computed from."""

    headline: str
    """Key of the network of the headline: its Eq. 6 is the number that a reader sees first."""
    tau: float
    """Temperature of Eq. 6."""
    counts: dict[str, int]
    """Number of images of each set, the bank included."""
    groups: dict[str, tuple[str, ...]]
    """`near` and `far` -> names of OOD sets; empty if no set is called near."""
    methods: dict[str, NetworkMetrics]
    """Key of a network -> its metrics, in the order of the table's rows."""
    probes: Probes
    shortcuts: dict[str, dict[str, Interval]] | None = None
    """OOD set -> statistic -> AUROC (see `eval.audits.shortcuts.audit`); None without images."""
    provenance: Provenance
    equal_images: tuple[str, ...] = ()
    """Names of the sets whose images are all equal."""
    settings: Settings
    versions: dict[str, str]
    """Package -> version."""
    command: tuple[str, ...]
    """Arguments that the scoring was started with."""

    @property
    def headline_network(self) -> NetworkMetrics:
        """All metrics of the network of the headline."""
        return self.methods[self.headline]

    @property
    def headline_columns(self) -> Columns:
        """Metrics of the headline: its network by Eq. 6."""
        return self.headline_network.scores[HEADLINE]

    @property
    def ood_names(self) -> list[str]:
        """Names of the OOD sets, in the order of the columns."""
        return [name for name in self.counts if name not in (BANK, TEST)]

    def to_json(self) -> dict[str, Any]:
        """Return the content of results.json."""
        fields = dataclasses.asdict(self)
        probes = {name: value for name, value in fields["probes"].items() if value is not None}
        shortcuts = {} if self.shortcuts is None else {"shortcuts": fields["shortcuts"]}
        return {
            "format_version": FORMAT_VERSION,
            "higher_is": HIGHER_IS,
            **{name: fields[name] for name in ("headline", "tau", "counts", "groups", "methods")},
            "probes": probes,
            **shortcuts,
            **fields["provenance"],
            "equal_images": fields["equal_images"],
            "settings": self.settings.to_json(),
            **{name: fields[name] for name in ("versions", "command")},
        }

    @classmethod
    def from_json(cls, content: Any) -> Scoring:
        """Return the scoring that results.json holds; the inverse of `to_json`.

        Raises:
            UserError: the content is of another version, or of --images.
            ValueError: a field is missing, unknown or of another type; names it.
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
    """Remove the fields of the dataclass `part` from `fields`, and return them."""
    names = [field.name for field in dataclasses.fields(part)]
    return {name: fields.pop(name) for name in names if name in fields}
