"""Whether DALI can decode an image file: what will read the encoded images of a set in a training.

DALI has no way to skip an image that it cannot decode: it stops. Its verdict on damaged files
differs from Pillow's in some percent of cases, so each has to be asked. And it has to be asked in a
process of its own, `python -m shards.building.dali_check`: some time after an error it can take the
process along; it seems that its threads are still at work on the rest of the batch then.

To that process goes, for each batch, the number of files and their sizes as little-endian uint64,
then the files; back comes one line of JSON, null or what DALI said of the batch.
"""

from __future__ import annotations

import atexit
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shards.errors import UserError

BATCH = 64
READY = b"ready\n"


class DaliProcess:
    """A process that decodes; it is started when it is first needed, and again when it died."""

    def __init__(self) -> None:
        """No process yet."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def errors(self, files: Sequence[bytes]) -> list[str | None]:
        """For each encoded image, None, or why DALI cannot decode it, in one line."""
        with self._lock:
            batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
            return [error for batch in batches for error in self._batch(batch)]

    def _batch(self, files: Sequence[bytes]) -> list[str | None]:
        error = self._ask(files)
        if error is None:
            return [None] * len(files)
        # Whatever still runs in it must not be taken for the next files' fault.
        self.close()
        if len(files) == 1:
            return [error]
        # DALI does not always say which image it was.
        return [error for file in files for error in self._batch([file])]

    def _ask(self, files: Sequence[bytes]) -> str | None:
        """What DALI says of some files, if it is not content with all of them."""
        if self._process is None:
            self._process = _start()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        sizes = [len(file) for file in files]
        try:
            stdin.write(struct.pack(f"<{len(files) + 1}Q", len(files), *sizes))
            stdin.writelines(files)
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = b""
        return json.loads(line) if line.endswith(b"\n") else "DALI crashes on it"

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


_PROCESS = DaliProcess()


def dali_errors(files: Sequence[bytes]) -> list[str | None]:
    """For each encoded image, None, or why DALI cannot decode it, in one line."""
    return _PROCESS.errors(files)


def _start() -> subprocess.Popen[bytes]:
    root = str(Path(__file__).absolute().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "shards.building.dali_check"],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # What its decoders print is no news: the reasons come back.
        stderr=subprocess.DEVNULL,
        # Ctrl-C is for the build, which ends it.
        start_new_session=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != READY:
        process.communicate()
        raise UserError("encoding: png and jpg need DALI to check them (extra cuda13 or cuda12)")
    return process


def _error(files: Sequence[np.ndarray]) -> str | None:
    pipeline = _decoder()(lambda: list(files), batch_size=len(files))
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


def serve() -> None:
    """Answer batch after batch, until the input ends."""
    # Whatever DALI prints must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import nvidia.dali  # noqa: F401  Without it nothing can be answered.

    answers.write(READY.decode())
    answers.flush()
    while header := sys.stdin.buffer.read(8):
        (count,) = struct.unpack("<Q", header)
        sizes = struct.unpack(f"<{count}Q", sys.stdin.buffer.read(8 * count))
        files = [np.frombuffer(sys.stdin.buffer.read(size), np.uint8) for size in sizes]
        print(json.dumps(_error(files)), file=answers, flush=True)


if __name__ == "__main__":
    serve()
