"""A check that DALI can decode image files, because DALI reads encoded sets during training.

If DALI fails to decode an image, the training stops, because DALI cannot skip the image. DALI and
Pillow disagree on some percent of damaged files, so a build decodes every image with both. DALI
runs in a separate process, `python -m shards.building.dali_check`, because it can crash some time
after an error, probably because its threads still work on the rest of the batch.

The build sends batches to this process: the number of files and their sizes as little-endian
uint64, then the files. The process answers each batch with one line of JSON: null, or DALI's error
message.
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
"""The largest number of files in a batch."""
READY = b"ready\n"
"""The line that the process writes first, when it could import DALI."""


class DaliProcess:
    """A separate process that decodes images with DALI.

    The process starts when it is first needed, and a new one starts after a crash.
    """

    def __init__(self) -> None:
        """Prepare the object; the process does not start yet."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def errors(self, files: Sequence[bytes]) -> list[str | None]:
        """Check image files, given by their contents.

        Returns:
            One entry per file: None if DALI can decode the file, or an error message in one line.
        """
        with self._lock:
            batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
            return [error for batch in batches for error in self._batch(batch)]

    def _batch(self, files: Sequence[bytes]) -> list[str | None]:
        error = self._ask(files)
        if error is None:
            return [None] * len(files)
        # The process may crash a little later. It is ended now, because the crash would be
        # attributed to the next files.
        self.close()
        if len(files) == 1:
            return [error]
        # DALI does not always name the image that failed, so each image is tried alone.
        return [error for file in files for error in self._batch([file])]

    def _ask(self, files: Sequence[bytes]) -> str | None:
        """Send a batch of files to the process.

        Returns:
            DALI's error message for the batch; None if DALI can decode all files.
        """
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
        """End the process, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


_PROCESS = DaliProcess()


def dali_errors(files: Sequence[bytes]) -> list[str | None]:
    """Check with DALI that image files, given by their contents, can be decoded.

    Returns:
        One entry per file: None if DALI can decode the file, or an error message in one line.
    """
    return _PROCESS.errors(files)


def _start() -> subprocess.Popen[bytes]:
    root = str(Path(__file__).absolute().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "shards.building.dali_check"],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # The decoders print warnings on stderr. The error messages come back on stdout.
        stderr=subprocess.DEVNULL,
        # Ctrl-C must reach only the build, which then ends this process.
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
        # The reason is the first line after DALI's own traceback.
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
    """Read batches of files from stdin and answer each on stdout, until stdin ends."""
    # DALI's own output goes to stderr, so that stdout contains only the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import nvidia.dali  # noqa: F401  Fail now if it is not installed.

    answers.write(READY.decode())
    answers.flush()
    while header := sys.stdin.buffer.read(8):
        (count,) = struct.unpack("<Q", header)
        sizes = struct.unpack(f"<{count}Q", sys.stdin.buffer.read(8 * count))
        files = [np.frombuffer(sys.stdin.buffer.read(size), np.uint8) for size in sizes]
        print(json.dumps(_error(files)), file=answers, flush=True)


if __name__ == "__main__":
    serve()
