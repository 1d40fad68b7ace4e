"""Whether DALI can decode an image file: what will read the encoded images of a set in a training.

DALI has no way to skip an image that it cannot decode: it stops. And its verdict on damaged files
differs from Pillow's in some percent of cases, so each has to be asked. Only sets of encoded images
need this, and so DALI; it is imported when the first of them is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BATCH = 64


def dali_errors(files: Sequence[Any]) -> list[str | None]:
    """For each encoded image (bytes), None, or why DALI cannot decode it, in one line."""
    errors: list[str | None] = []
    for start in range(0, len(files), BATCH):
        batch = [np.frombuffer(file, np.uint8) for file in files[start : start + BATCH]]
        # A pipeline is of no use after an error, and does not always say which image it was.
        if _error(batch) is None:
            errors += [None] * len(batch)
        else:
            errors += [_error([file]) for file in batch]
    return errors


def _error(files: list[np.ndarray]) -> str | None:
    pipeline = _decoder()(lambda: files, batch_size=len(files))
    try:
        pipeline.run()
    except RuntimeError as error:
        # The first line after DALI's own traceback.
        reason = str(error).partition("encountered:")[2].strip().partition("\n")[0].strip(" :")
        return f"DALI cannot decode it: {reason}"
    return None


def _decoder() -> Any:
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(num_threads=1, device_id=None, exec_dynamic=True, prefetch_queue_depth=1)
    def decoder(files: Any) -> Any:
        encoded = fn.external_source(source=files, batch=True)
        return fn.decoders.image(encoded, output_type=types.DALIImageType.RGB)

    return decoder
