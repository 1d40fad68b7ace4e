"""Feature files: features that were made elsewhere, stored as .npz with one array [N, d] per set.

The name of an array is the name of its set. If only feature files are scored, their arrays also
define the sets and the sizes of the sets. The array `synthetic-outliers` is no set: with it, the
features take part in the ensemble.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.sets.opening import BANK, SYNTHETIC, TEST, EvalSets, ood_name
from shards.disk.reading import file_sha256
from shards.errors import UserError
from shards.terminal.mistakes import did_you_mean


@dataclass(frozen=True)
class FeatureFile:
    """A feature file, which is one row of the tables. Implements `Features` of networks.py."""

    path: Path
    arrays: Mapping[str, NDArray]
    """Set -> its array. Once `check` has passed, each array is float [N, d]."""
    device: torch.device
    """Device on which the features are scored."""

    @classmethod
    def read(cls, path: Path, device: torch.device) -> FeatureFile:
        """Read all arrays of a file.

        Raises:
            UserError: the file is no readable .npz, or two OOD sets have the same name.
        """
        try:
            file = np.load(path)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UserError(f"--features {path}: is one array, expected an .npz of several")
            with file:
                # numpy returns bytes for a member that is no array, for example a text file.
                arrays = {name: np.asarray(file[name]) for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"--features {path}: cannot be read as .npz ({error})") from error
        own = BANK, TEST, SYNTHETIC
        names = {name: name if name in own else ood_name(name) for name in arrays}
        for name, other in names.items():
            if name != other and other in arrays:
                raise UserError(f"--features {path}: {name} and {other} are both named {other!r}")
        return cls(path, {names[name]: array for name, array in arrays.items()}, device)

    @property
    def key(self) -> str:
        """The key of this file in results.json."""
        return f"npz:{self.path.stem}"

    @property
    def label(self) -> str:
        """The name that tables and figures show for this file."""
        return self.path.name

    def digest(self) -> str:
        """Return the SHA-256 of the file as hex digits."""
        return file_sha256(self.path)

    def count(self, name: str) -> int:
        """Return N, the number of images of the set `name`.

        Raises:
            UserError: there is no array with this name, or the array is not float [N, d].
        """
        if name not in self.arrays:
            held = (", ".join(self.arrays) or "nothing") + did_you_mean(name, self.arrays)
            raise UserError(f"--features {self.path}: has no array {name!r}; it has {held}")
        array = self.arrays[name]
        if array.ndim != 2 or array.dtype.kind != "f" or 0 in array.shape:
            raise UserError(
                f"--features {self.path}: {name} is {array.dtype} {list(array.shape)}, expected "
                "floats [N, d], a row for each image of the set"
            )
        return len(array)

    def check(self, counts: Mapping[str, int]) -> None:
        """Check that the file has one feature per image of every set, all of the same width.

        Args:
            counts: set -> number of its images. The bank is one of the sets.

        Raises:
            UserError: features are missing, or widths differ. The message names the file and the
                array.
        """
        for name, count in counts.items():
            if self.count(name) != count:
                raise UserError(
                    f"--features {self.path}: {name} has {self.count(name)} rows, expected "
                    f"{count}, one for each image of the set"
                )
        width = self.arrays[BANK].shape[1]
        for name in counts:
            if self.arrays[name].shape[1] != width:
                raise UserError(
                    f"--features {self.path}: rows of {name} have {self.arrays[name].shape[1]} "
                    f"numbers, expected {width} as in {BANK}"
                )

    def rows(self, name: str) -> NDArray[np.float32]:
        """Return the features of the set `name` for scoring, float32 [N, d]."""
        return self.arrays[name].astype(np.float32)

    def of_set(self, name: str) -> Tensor:
        """Return the features of the set `name` on the device, float32 [N, d]."""
        return torch.from_numpy(self.rows(name)).to(self.device)

    def of_sets(self, sets: EvalSets) -> dict[str, Tensor]:
        """Return the features of all sets on the device.

        Returns:
            Set -> float32 [N, d]. Row i is the feature of the image with id i.
        """
        return {name: self.of_set(name) for name in sets.counts}


def sets_of(files: Sequence[FeatureFile]) -> EvalSets:
    """Return the sets of a scoring of feature files alone: each array of the first file is a set.

    Raises:
        UserError: the bank, the test set or all OOD sets are missing, the name of a set cannot be a
            file name, an array is not float [N, d], or a file has a set that the first file lacks.
    """
    first, *others = files
    ood = [name for name in first.arrays if name not in (BANK, TEST, SYNTHETIC)]
    counts = {name: first.count(name) for name in (BANK, TEST, *ood)}
    if not ood:
        raise UserError(f"--features {first.path}: has no array of OOD images")
    for name in ood:
        if name == ".." or not name or Path(name).name != name:
            raise UserError(f"--features {first.path}: {name!r} cannot be the name of an OOD set")
    for other in others:
        for name in other.arrays:
            if name not in (*counts, SYNTHETIC):
                raise UserError(f"--features {other.path}: {name} is no set of {first.path}")
    return EvalSets(counts, {})
