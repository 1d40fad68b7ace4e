"""One .npy file of images, uint8 (N,H,W,3), (N,H,W,1) or (N,H,W); memory-mapped, unlabelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shards.cli import UserError
from shards.manifest import SourceFile
from shards.sources import Sample, describe_file


class NpySource:
    """The images of an array on the disk."""

    classes: tuple[str, ...] = ()
    labels: np.ndarray | None = None

    def __init__(self, path: Path) -> None:
        """Map the file.

        Raises:
            UserError: it is missing, empty, pickled, no array file, or of another dtype or shape.
        """
        if not path.is_file():
            raise UserError(f"{path}: no such .npy file")
        try:
            # Never unpickled: an object array may run any code when it is loaded.
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: not an array file: {error}") from error
        if not isinstance(array, np.ndarray):
            raise UserError(f"{path}: an archive of arrays, expected one array (.npy)")
        if array.ndim == 3:
            array = array[..., None]
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3):
            raise UserError(
                f"{path}: {array.dtype} {array.shape}, expected uint8 (N,H,W,3) or (N,H,W[,1])"
            )
        if not array.size:
            raise UserError(f"{path}: no images, its shape is {array.shape}")
        self._path = path
        self._images = array  # uint8 [N,H,W,C]

    def __len__(self) -> int:
        """The number of images."""
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        """Image `index`, uint8 [H,W,C]."""
        return Sample(np.array(self._images[index]), None, None)

    def files(self) -> tuple[SourceFile, ...]:
        """The array file."""
        return (describe_file(self._path),)
