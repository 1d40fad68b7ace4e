"""The rows of an array that lies in a file, read when they are asked for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from shards.cli import UserError


class FileRows:
    """uint8 [N,H,W,C], indexed by one number or by an array of them.

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

    def __getitem__(self, index: int | np.ndarray) -> np.ndarray:
        """Row `index`, uint8 [H,W,C], or rows, int64 [n] -> uint8 [n,H,W,C]."""
        indexes = np.atleast_1d(index)
        rows = np.empty((len(indexes), *self.shape[1:]), np.uint8)
        memory, start = rows.reshape(-1).data, 0
        for place in (self._offset + indexes * self._row_bytes).tolist():
            end = start + self._row_bytes
            if os.preadv(self._handle, [memory[start:end]], place) != self._row_bytes:
                raise UserError(f"{self._file.name}: cut since it was opened")
            start = end
        return rows[0] if np.ndim(index) == 0 else rows
