"""Features that were made elsewhere: an .npz file with an array [N, d] for each set, by its name.

Where nothing but such files is given, they also say which sets there are, and how large they are.
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

from eval.sets.opening import BANK, TEST, EvalSets, ood_name
from shards.disk.reading import file_sha256
from shards.errors import UserError
from shards.terminal.mistakes import did_you_mean


@dataclass(frozen=True)
class FeatureFile:
    """One file, a row of the table."""

    path: Path
    arrays: Mapping[str, NDArray]
    """Set -> float [N, d], once `check` has passed."""
    device: torch.device
    """Of the scoring."""

    @classmethod
    def read(cls, path: Path, device: torch.device) -> FeatureFile:
        """Read all arrays.

        Raises:
            UserError: the file cannot be read, or two OOD sets have one name.
        """
        try:
            file = np.load(path)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UserError(f"--features {path}: is one array, expected an .npz of several")
            with file:
                # numpy gives what is no array, as a text file, as bytes.
                arrays = {name: np.asarray(file[name]) for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"--features {path}: cannot be read as .npz ({error})") from error
        names = {name: name if name in (BANK, TEST) else ood_name(name) for name in arrays}
        for name, other in names.items():
            if name != other and other in arrays:
                raise UserError(f"--features {path}: {name} and {other} are both named {other!r}")
        return cls(path, {names[name]: array for name, array in arrays.items()}, device)

    @property
    def key(self) -> str:
        """In results.json."""
        return f"npz:{self.path.stem}"

    @property
    def label(self) -> str:
        """What a reader sees."""
        return self.path.name

    def digest(self) -> str:
        """SHA-256 of the file, in hex digits."""
        return file_sha256(self.path)

    def count(self, name: str) -> int:
        """N of a set.

        Raises:
            UserError: there is no array of that name, or it holds no features.
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
        """Make sure that all sets have their features, of one width.

        Args:
            counts: set -> images, the bank among them.

        Raises:
            UserError: names the file and the array.
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
                    f"numbers, those of {BANK} {width}"
                )

    def rows(self, name: str) -> NDArray[np.float32]:
        """Features of a set [N, d], as they are scored."""
        return self.arrays[name].astype(np.float32)

    def of_sets(self, sets: EvalSets) -> dict[str, Tensor]:
        """Set -> float32 [N, d] on the device, row i = id i."""
        return {name: torch.from_numpy(self.rows(name)).to(self.device) for name in sets.counts}


def sets_of(files: Sequence[FeatureFile]) -> EvalSets:
    """The sets of a scoring that has nothing but files, one or more: each array is a set.

    Raises:
        UserError: bank or test set is missing, or there is no OOD set; a name is none of a
            file; an array holds no features; or the files have other sets than the first.
    """
    first, *others = files
    ood = [name for name in first.arrays if name not in (BANK, TEST)]
    counts = {name: first.count(name) for name in (BANK, TEST, *ood)}
    if not ood:
        raise UserError(f"--features {first.path}: has no array of OOD images")
    for name in ood:
        if name == ".." or not name or Path(name).name != name:
            raise UserError(f"--features {first.path}: {name!r} cannot be the name of an OOD set")
    for other in others:
        for name in other.arrays:
            if name not in counts:
                raise UserError(f"--features {other.path}: {name} is no set of {first.path}")
    return EvalSets(counts, {})
