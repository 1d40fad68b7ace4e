"""A cache of features on disk, in the run folder: one file per network and set.

The name of a file is a digest of everything that its features depend on: the checkpoint, the
manifest of the set, the size of the views, the precision, the kind of device, and versions of
packages. If a file is damaged, its features are computed again. If the folder cannot be written
(for example in a read-only run), scoring works without the cache.
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
    """A folder of stored features. Without a folder, features are computed each time."""

    def __init__(self, folder: Path | None) -> None:
        """Store features in `folder`, which is made when the first features are stored.

        If `folder` is None, nothing is stored.
        """
        self._folder = folder
        self._is_writable = True  # set to False after a failed write

    def get(self, key: Key, make: Callable[[], Tensor], world: World) -> Tensor:
        """Return stored features. If there are none, compute and store them.

        Args:
            key: everything that the features depend on. An empty key means that the features are
                never stored, because computing them is as fast as reading them.
            make: function that computes the features, float32 [N, d]. Either all ranks call it, or
                no rank does.
            world: the ranks. Every rank must call this method.

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
                self._is_writable = False  # so that the message appears once, not for each set
                told = f"{self._folder}: features are not kept ({error}); --cache names another"
                print(printable(told), file=sys.stderr, flush=True)
        return features


def _read(path: Path, described: str) -> Tensor | None:
    """Return the features in a file. None if the file cannot be read, or was changed or damaged.

    Args:
        path: the file.
        described: the key that the file must have, as JSON.
    """
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
