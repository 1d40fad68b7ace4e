"""Score a folder of images with a file of `eval/export.py`: no trainer, no torch, no DALI.

    python -m eval.exported FILE.onnx FOLDER --out scores.csv

The file holds everything that decides: network, bank, calibration scores, the images' size and how
they are brought to it. Needed are numpy, Pillow, tyro and onnxruntime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import numpy as np
import tyro
from numpy.typing import NDArray

from eval.decisions.conformal import Calibration
from eval.decisions.images import folder_images
from eval.decisions.verdicts import judge, scores_csv, summary
from shards.disk.publish import refuse_existing, write_new_file
from shards.errors import UserError
from shards.json_types import is_of_type
from shards.pixels.levels import WHITE, is_colour, is_intensity
from shards.pixels.target import Target
from shards.terminal import cli

FORMAT_VERSION = 1
OPTIONAL = ("background", "intensity")
INPUT, OUTPUT = "images", "score"
BATCH = 64


@dataclass(frozen=True)
class Header:
    """What the file says of itself: `metadata_props` of the ONNX model, each value as JSON."""

    format_version: int
    fpr: float
    """False-positive rate at which the file decides, unless another is asked for."""
    threshold: float
    """A score above it is called OOD at that rate."""
    calibration_scores: list[float]
    """Ascending; by onnxruntime on a CPU."""
    size_px: int
    """Height and width of the images that the model takes."""
    channels: int
    encoding: str
    resize: str
    """How the images of the training came to be: see `shards.building.convert.Target`."""
    tau: float
    bank: dict[str, Any]
    """features: M of the training images; centres: what is left of them in the file; auroc: with
    either, of OOD sets; overlap: images that these sets and the calibration set share."""
    checkpoint: dict[str, Any]
    """step, sha256."""
    manifests: dict[str, Any]
    # A file that was made before these were understood does not have them.
    background: str = WHITE
    """What transparent images are laid on: #rrggbb."""
    intensity: tuple[float, float] | None = None
    """The values that become 0 and 255 in images of more than 8 bits that do not state them."""

    def to_metadata(self) -> dict[str, str]:
        """As the model holds it."""
        return {name: json.dumps(value) for name, value in vars(self).items()}

    @classmethod
    def from_metadata(cls, path: Path, metadata: Mapping[str, str]) -> Header:
        """Read it.

        Raises:
            UserError: the file is not one of ours, or of another version.
        """
        found = {}
        try:
            # The version first: another may have other names.
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
        """What is done to the pixels of an image."""
        how = self.resize, self.background, self.intensity
        return Target(self.size_px, self.channels, self.encoding, *how)  # type: ignore[arg-type]


def check_installed(*packages: str) -> None:
    """Refuse to go on without packages that ONNX files need.

    Raises:
        UserError: one is not installed.
    """
    for name in packages:
        if find_spec(name) is None:
            raise UserError(
                f"{name} is not installed: pip install {name}, or with this project: "
                "pip install -e .[export]"
            )


class Model:
    """The network and the bank in onnxruntime, on a CPU."""

    def __init__(self, model: bytes | str) -> None:
        """Of a file's content, or its name."""
        import onnxruntime

        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return self._session.get_modelmeta().custom_metadata_map

    def score(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, H, W, C] -> [N]; higher = more OOD."""
        return np.concatenate(
            [
                self._session.run([OUTPUT], {INPUT: pixels[first : first + BATCH]})[0]
                for first in range(0, len(pixels), BATCH)
            ]
        )


@dataclass(frozen=True)
class ExportedConfig:
    """Score a folder of images with an exported file."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.onnx")]
    """File that eval/export.py wrote."""
    images: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder or archive of image files, or one such file."""
    out: Path
    """New CSV file: file, score, p_value, is_ood."""
    fpr: float | None = None
    """False-positive rate; by default that of the file."""


@cli.keeps("nothing was written")
def main(argv: Sequence[str] | None = None) -> None:
    """Score what the command names and write the CSV.

    Raises:
        UserError: the file, the folder or the rate is not as it must be; nothing is written then.
    """
    config = cli.parse(ExportedConfig, argv)
    check_installed("onnxruntime")
    refuse_existing(config.out)
    if not config.file.is_file():
        raise UserError(f"{config.file}: no such file")
    try:
        model = Model(str(config.file))
    except Exception as error:  # onnxruntime's errors are of no common kind
        raise UserError(f"{config.file}: onnxruntime cannot load it: {error}") from error
    header = Header.from_metadata(config.file, model.metadata)
    fpr = header.fpr if config.fpr is None else config.fpr
    names, reads = folder_images(config.images)
    calibration = Calibration(header.calibration_scores)
    verdicts = judge(reads, header.rule, model.score, calibration, fpr, names)
    write_new_file(config.out, [scores_csv(names, verdicts)])
    print(summary(names, verdicts, len(calibration.scores), fpr))


if __name__ == "__main__":
    cli.run(main)
