"""Watches the calls by which a process changes the disk, and lets one of them go wrong.

It wraps functions of `os` and `open`, so the code under test needs no hooks. A place is a function
and the number of its call, "fsync 3"; the same build makes the same calls, so a place can be tried
again. "write 3 half" is the third write after half of its bytes.
"""

from __future__ import annotations

import builtins
import collections
import errno
import io
import os
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any

CHANGES = ("mkdir", "rename", "replace", "unlink", "rmdir", "truncate", "link", "symlink")
"""Functions of `os` that are watched, besides `fsync` and all ways to open and to write."""
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}


class Calls:
    """Counts calls, and makes the one at `place` fail as `fault` says.

    Faults: "kill" (SIGKILL), "power cut" (the same, and what was not synced is lost by half),
    "ENOSPC" (this and all later writes: the disk stays full), "EIO" (once), "short" (a write takes
    half and says so).
    """

    def __init__(self, folder: str, place: str = "", fault: str = "") -> None:
        """By default nothing fails. Of files that are read, those in `folder` are counted."""
        self._folder = f"{folder}/"
        self.counts: collections.Counter[str] = collections.Counter()
        self.log: list[list[str]] = []
        """Call and path, in order."""
        self._function, _, rest = place.partition(" ")
        number, _, half = rest.partition(" ")
        self._number, self._is_half = int(number or 0), bool(half)
        self._fault = fault
        self._is_full = False
        self._unsynced: set[str] = set()
        self._lock = threading.RLock()
        self._real = {name: getattr(os, name) for name in (*CHANGES, "fsync", "open", "write")}
        self._real_open = builtins.open

    def install(self) -> None:
        """Wrap the functions, in this process, for good."""
        for name in CHANGES:
            setattr(os, name, self._watched(name))
        os.fsync = self._fsync
        os.open = self._os_open  # type: ignore[assignment]
        os.write = lambda handle, data: self.write(  # type: ignore[assignment,misc]
            lambda part: self._real["write"](handle, part), data, _path_of(handle), raw=True
        )
        builtins.open = io.open = self._open  # type: ignore[assignment]

    def write(
        self,
        write: Callable[[Any], int],
        data: Any,
        path: str,
        *,
        raw: bool,
        flush: Callable[[], object] = lambda: None,
    ) -> int:
        """Write `data`; only a raw file may take a part of it, and only a buffered one flushes."""
        with self._lock:
            self._unsynced.add(path)
            is_here = self._note("write", path)
            if is_here and self._fault == "short" and raw:
                return write(data[: len(data) // 2])
            if is_here and self._is_half:
                write(data[: len(data) // 2])
                flush()
                self.die()
        return write(data)

    def _note(self, function: str, path: object) -> bool:
        """Count a call; whether a fault is due that the caller has to see to."""
        with self._lock:
            self.counts[function] += 1
            self.log.append([function, os.fsdecode(path) if isinstance(path, bytes) else str(path)])
            is_here = function == self._function and self.counts[function] == self._number
            if is_here and self._fault in ("kill", "power cut") and not self._is_half:
                self.die()
            self._is_full |= is_here and self._fault == "ENOSPC"
            if (self._is_full and function in ("write", "open", "mkdir")) or (
                is_here and self._fault in ERRORS
            ):
                code = ERRORS[self._fault]
                raise OSError(code, os.strerror(code), path)
            return is_here

    def die(self) -> None:
        """What "kill" or "power cut" does when its place is reached."""
        if self._fault == "power cut":
            self._lose_unsynced()
        os.kill(os.getpid(), signal.SIGKILL)

    def _lose_unsynced(self) -> None:
        for path in self._unsynced:
            if os.path.isfile(path):
                self._real["truncate"](path, os.path.getsize(path) // 2)

    def _watched(self, name: str) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            self._note(name, path)
            result = self._real[name](path, *args, **options)
            if name in ("rename", "replace"):
                self._moved(os.path.abspath(path), os.path.abspath(args[0]))
            return result

        return call

    def _moved(self, old: str, new: str) -> None:
        with self._lock:
            self._unsynced = {path_after_rename(path, old, new) for path in self._unsynced}

    def _fsync(self, handle: Any) -> None:
        path = _path_of(handle if isinstance(handle, int) else handle.fileno())
        self._note("fsync", path)
        self._real["fsync"](handle)
        self._synced(path)

    def _synced(self, path: str) -> None:
        with self._lock:
            self._unsynced.discard(path)

    def _os_open(self, path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self._note("open", path)
        return self._real["open"](path, flags, *args, **options)

    def _open(self, file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if not set(mode) & set("wxa+") or isinstance(file, int):
            if not isinstance(file, int) and os.fsdecode(file).startswith(self._folder):
                self._note("read", file)
            return self._real_open(file, mode, *args, **options)
        self._note("open", file)
        return _WatchedFile(self._real_open(file, mode, *args, **options), self)


class _WatchedFile:
    """A file that is open for writing."""

    def __init__(self, file: Any, calls: Calls) -> None:
        self._file, self._calls = file, calls
        self._path = os.path.abspath(file.name)

    def write(self, data: Any) -> int:
        raw = isinstance(self._file, io.RawIOBase)
        return self._calls.write(
            self._file.write, data, self._path, raw=raw, flush=self._file.flush
        )

    def writelines(self, parts: Iterable[Any]) -> None:
        """As one write: a list of names would be thousands."""
        self.write(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _WatchedFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def path_after_rename(path: str, old: str, new: str) -> str:
    """Where `path` is once `old`, which it may be or be below, is called `new`."""
    return new + path[len(old) :] if f"{path}/".startswith(f"{old}/") else path


def _path_of(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")
