"""The rows of an array in a file, read only when they are asked for."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from shards.disk.file_system import naming
from shards.errors import UserError


class FileRows:
    """An array uint8 [N,H,W,C] in a file, indexed by one number.

    The file is not mapped. The pages of a map would count as memory of the process, until the whole
    file does, and if a mapped file is cut, the process is killed.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        file: IO[bytes],
        path: Path,
        offset: int,
        shape: tuple[int, ...],
        axes: tuple[int, int, int] = (0, 1, 2),
    ) -> None:
        """Describe the array in the file, which is in C order.

        Args:
            file: The open file; it must stay open.
            path: The path of the file, for messages.
            offset: The start of the array in the file, bytes.
            shape: The stored shape, four numbers.
            axes: The axes of a stored row that are H, W and C.
        """
        self._file = file
        self._path = path
        self._offset = offset
        self._stored = shape[1:]
        self._axes = axes
        self._row_bytes = math.prod(self._stored)
        self.shape = (shape[0], *(self._stored[axis] for axis in axes))
        self.size = shape[0] * self._row_bytes

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        """Return row `index`: uint8 [H,W,C]."""
        row = np.empty((1, self._row_bytes), np.uint8)
        self.read_into(np.array([index]), row)
        return row.reshape(self.shape[1:])

    def read_into(self, indexes: np.ndarray, out: np.ndarray) -> None:
        """Read rows, int64 [n], into `out`, uint8 [n,H*W*C], whose rows are contiguous."""
        is_stored_so = self._axes == (0, 1, 2)
        stored: Any = np.empty(0 if is_stored_so else self._row_bytes, np.uint8)
        handle = self._file.fileno()
        places = (self._offset + indexes * self._row_bytes).tolist()
        with naming(self._path):
            for place, row in zip(places, out, strict=True):
                buffer = row if is_stored_so else stored
                if os.preadv(handle, [buffer], place) != self._row_bytes:
                    raise UserError(f"{self._path}: cut since it was opened")
                if not is_stored_so:
                    turned = stored.reshape(self._stored).transpose(self._axes)
                    row.reshape(turned.shape)[...] = turned
