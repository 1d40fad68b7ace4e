"""The rows of an array that lies in a file, read when they are asked for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from shards.cli import UserError


class FileRows:
    """uint8 [N,H,W,C], indexed by one number.

    A map of the file would count as the process's memory, page by page, until all of it does; and
    where a file is cut under its map, the process is killed.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...]) -> None:
        """Of an array of `shape` that starts `offset` bytes into the file, in C order."""
        self.shape = shape
        self._file = open(path, "rb", buffering=0)
        self._handle = self._file.fileno()
        self._offset = offset
        self._row_bytes = int(np.prod(shape[1:]))
        self.size = shape[0] * self._row_bytes

    def __len__(self) -> int:
        """The number of rows."""
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        """Row `index`: uint8 [H,W,C]."""
        row = np.empty((1, self._row_bytes), np.uint8)
        self.read_into(np.array([index]), row)
        return row.reshape(self.shape[1:])

    def read_into(self, indexes: np.ndarray, out: np.ndarray) -> None:
        """Read rows, int64 [n], into `out`, uint8 [n,H*W*C], whose rows are contiguous."""
        places = (self._offset + indexes * self._row_bytes).tolist()
        for place, row in zip(places, out, strict=True):
            if os.preadv(self._handle, [row], place) != self._row_bytes:
                raise UserError(f"{self._file.name}: cut since it was opened")
