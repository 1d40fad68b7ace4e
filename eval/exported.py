"""Score a folder of images with an ONNX file of `eval/export.py`; needs neither torch nor DALI.

    python -m eval.exported FILE.onnx FOLDER --out scores.csv

The ONNX file holds everything that a decision depends on: the network, the bank, the calibration
scores, and the rule for resizing images. The command needs numpy, Pillow, tyro and onnxruntime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import numpy as np
import tyro
from numpy.typing import NDArray

from eval.decisions.conformal import Calibration
from eval.decisions.images import folder_images
from eval.decisions.verdicts import Scored, judge, scores_csv, summary
from shards.disk.publish import refuse_existing, write_new_file
from shards.errors import UserError, check_installed
from shards.json_types import is_of_type
from shards.pixels.levels import WHITE, is_colour, is_intensity
from shards.pixels.target import Target
from shards.terminal import cli

FORMAT_VERSION = 1
OPTIONAL = ("background", "intensity", "members")
"""Fields of the header that files from earlier versions may lack."""
INPUT, OUTPUT, MEMBER = "images", "score", "member"
"""Names of the model's input and of its outputs."""
BATCH = 64
"""Number of images in one call of the model."""


@dataclass(frozen=True)
class Header:
    """The metadata of an exported file, which `metadata_props` of the ONNX model holds as JSON."""

    format_version: int
    fpr: float
    """Default false-positive rate of the decisions. The command may give another rate."""
    threshold: float
    """Threshold at the rate `fpr`. An image with a score above the threshold is called OOD."""
    calibration_scores: list[float]
    """Scores of the calibration images, computed with onnxruntime on a CPU, in ascending order."""
    size_px: int
    """Height and width in pixels of the images that the model takes."""
    channels: int
    """Number of channels of the images that the model takes: 1 or 3."""
    encoding: str
    """Encoding of the training images: a value of `shards.pixels.target.Target.encoding`."""
    resize: str
    """Rule for resizing images to `size_px`: a value of `shards.pixels.target.Target.resize`."""
    tau: float
    """Temperature tau of Eq. 6 in the paper."""
    bank: dict[str, Any]
    """Facts about the bank: `features` is the number of training images, and `centres` the number
    of centres in the file. `auroc` has the AUROC of OOD sets with the full bank and with the
    centres. `overlap` has the numbers of images that sets share."""
    checkpoint: dict[str, Any]
    """The `step` and the `sha256` of the checkpoint."""
    manifests: dict[str, Any]
    """Facts from the manifests of the bank and the calibration set: set -> name, split, sha256 and
    more."""
    background: str = WHITE
    """Colour that is put behind transparent images, as #rrggbb."""
    intensity: tuple[float, float] | None = None
    """Two pixel values that are mapped to 0 and 255, for images of more than 8 bits whose file
    states no range of values. None if the export had no such values."""
    members: list[str] = field(default_factory=lambda: ["teacher/eq6"])
    """Keys of the members whose weighted sum is the score. The output `member` of the model counts
    them from 0. Files from earlier versions have Eq. 6 alone, and no such output."""

    def to_metadata(self) -> dict[str, str]:
        """Return the header as the `metadata_props` of a model: field -> value as JSON."""
        return {name: json.dumps(value) for name, value in vars(self).items()}

    @classmethod
    def from_metadata(cls, path: Path, metadata: Mapping[str, str]) -> Header:
        """Read the header of the file `path` from its metadata.

        Raises:
            UserError: eval/export.py did not make the file, or the file has another format version.
        """
        found = {}
        try:
            # The version is the first field, because another version may have other fields.
            for name, kind in get_type_hints(cls).items():
                if name not in metadata and name in OPTIONAL:
                    continue
                found[name] = json.loads(metadata[name])
                if name == "format_version" and found[name] != FORMAT_VERSION:
                    raise UserError(f"{path}: {name} is {found[name]}, expected {FORMAT_VERSION}")
                if not is_of_type(found[name], kind):
                    raise ValueError(f"{name} is {metadata[name]:.40}")
            if (intensity := found.get("intensity")) is not None:
                found["intensity"] = tuple(intensity)
                if not is_intensity(*intensity):
                    raise ValueError(f"intensity is {intensity}")
            if not is_colour(found.get("background", WHITE)):
                raise ValueError(f"background is {found['background']!r}")
        except (KeyError, ValueError) as error:
            raise UserError(f"{path}: was not made by eval/export.py ({error})") from error
        return cls(**found)

    @property
    def rule(self) -> Target:
        """The rule that turns an image into the pixels that the model takes."""
        how = self.resize, self.background, self.intensity
        return Target(self.size_px, self.channels, self.encoding, *how)  # type: ignore[arg-type]


class Model:
    """An ONNX model that turns pixels into scores. It is run with onnxruntime on a CPU."""

    def __init__(self, model: bytes | str) -> None:
        """Load the model.

        Args:
            model: content of an ONNX file (bytes), or its path (str).
        """
        import onnxruntime

        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the model, key -> text: `metadata_props` in ONNX."""
        return self._session.get_modelmeta().custom_metadata_map

    def score(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the score of each image, and the number of the member that adds most to it.

        Args:
            pixels: uint8 [N, H, W, C].

        Returns:
            float32 [N] and int64 [N]. A higher score means more OOD.
        """
        chunks = [
            self._session.run(self._outputs, {INPUT: pixels[first : first + BATCH]})
            for first in range(0, len(pixels), BATCH)
        ]
        scores = np.concatenate([chunk[0] for chunk in chunks])
        if len(self._outputs) == 1:
            return scores, np.zeros(len(scores), np.int64)
        return scores, np.concatenate([chunk[1] for chunk in chunks])


@dataclass(frozen=True)
class ExportedConfig:
    """Score a folder of images with an ONNX file that eval/export.py wrote."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.onnx")]
    """The ONNX file."""
    images: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder or archive of image files to score, or a single image file."""
    out: Path
    """CSV file to write, with the columns file, score, p_value, is_ood and member. It must not
    exist yet."""
    fpr: float | None = None
    """False-positive rate of the decisions. The default is the rate in the ONNX file."""


@cli.keeps("nothing was written")
def main(argv: Sequence[str] | None = None) -> None:
    """Score the images that the command names, and write the CSV file.

    Raises:
        UserError: the file, the folder or the rate is wrong. Nothing is written then.
    """
    config = cli.parse(ExportedConfig, argv)
    check_installed("export", "onnxruntime")
    refuse_existing(config.out)
    if not config.file.is_file():
        raise UserError(f"{config.file}: no such file")
    try:
        model = Model(str(config.file))
    except Exception as error:  # the errors of onnxruntime have no common base
        raise UserError(f"{config.file}: onnxruntime cannot load it: {error}") from error
    header = Header.from_metadata(config.file, model.metadata)
    fpr = header.fpr if config.fpr is None else config.fpr
    names, reads = folder_images(config.images)
    calibration = Calibration(header.calibration_scores)

    def score(pixels: NDArray[np.uint8]) -> Scored:
        scores, members = model.score(pixels)
        return Scored(scores, [header.members[number] for number in members])

    verdicts = judge(reads, header.rule, score, calibration, fpr, names)
    write_new_file(config.out, [scores_csv(names, verdicts)])
    print(summary(names, verdicts, len(calibration.scores), fpr))


if __name__ == "__main__":
    cli.run(main)
