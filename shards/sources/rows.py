"""An array in a file, whose rows are read from the file when they are used."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from shards.disk.file_system import naming
from shards.errors import UserError


class FileRows:
    """An array uint8 [N,H,W,C] in a file, whose rows are read one by one with an integer index.

    The file is not mapped into memory, for two reasons. All pages that were read would count as
    memory of the process. And if another process cuts a mapped file, the reading process is killed.
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
        """Describe an array that is stored in C order.

        Args:
            file: The open file. It must stay open.
            path: The path of the file, for error messages.
            offset: The position in the file, in bytes, where the array starts.
            shape: The four dimensions of the array as it is stored. The first is N.
            axes: The positions of H, W and C in a stored row. (2, 1, 0) means that rows are stored
                as [C,W,H].
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
        """Return row `index` as uint8 [H,W,C]."""
        row = np.empty((1, self._row_bytes), np.uint8)
        self.read_into(np.array([index]), row)
        return row.reshape(self.shape[1:])

    def read_into(self, indexes: np.ndarray, out: np.ndarray) -> None:
        """Read many rows.

        Args:
            indexes: The row numbers: int64 [n].
            out: The array that receives the rows: uint8 [n,H*W*C]. Each of its rows must be
                contiguous in memory.

        Raises:
            UserError: The file was cut after it was opened.
        """
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
