"""Features that were computed before, kept beside the run: one file for each network and set.

A file is found by what its features depend on: the digests of checkpoint and manifest, the size of
the views, precision, kind of device, versions. One that is damaged is computed anew. A folder that
cannot be written, as of a run that may only be read, costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shards.disk.publish import sync, whole_file
from shards.errors import printable
from train.world import World

Key = Mapping[str, str | int]


class FeatureCache:
    """A folder of features; without a folder, nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        """Keep features in `folder`, which is made when the first are stored."""
        self._folder = folder
        self._is_writable = True  # until shown otherwise

    def get(self, key: Key, make: Callable[[], Tensor], world: World) -> Tensor:
        """The features of `key`: as they were stored, or made, and then stored.

        Args:
            key: everything that the features depend on; empty for what is as quick to make.
            make: computes them: float32 [N, d]; on all ranks, or on none.
            world: the ranks, each of which must call this.

        Returns:
            float32 [N, d] on the rank's device.
        """
        if self._folder is None or not key:
            return make()
        described = json.dumps(dict(key), sort_keys=True)
        path = self._folder / f"{hashlib.sha256(described.encode()).hexdigest()[:32]}.safetensors"
        stored = _read(path, described)
        is_everywhere = world.everywhere(stored is not None)
        if stored is not None and is_everywhere:
            return stored.to(world.device)
        features = make()
        if world.is_main and self._is_writable:
            try:
                _write(path, described, features)
            except (OSError, SafetensorError) as error:
                self._is_writable = False  # told once, not for each set
                told = f"{self._folder}: features are not kept ({error}); --cache names another"
                print(printable(told), file=sys.stderr, flush=True)
        return features


def _read(path: Path, described: str) -> Tensor | None:
    """What `path` holds; None if it cannot be read, or is not as it was written."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata, features = file.metadata() or {}, file.get_tensor("features")
    except (OSError, SafetensorError):
        return None
    is_whole = metadata.get("sha256") == _digest(features) and metadata.get("key") == described
    return features if is_whole else None


def _write(path: Path, described: str, features: Tensor) -> None:
    features = features.cpu().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"key": described, "sha256": _digest(features)}
    with whole_file(path) as partial:
        save_file({"features": features}, partial, metadata)
        sync(partial)


def _digest(features: Tensor) -> str:
    return hashlib.sha256(features.numpy().tobytes()).hexdigest()
