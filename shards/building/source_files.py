"""The files of a source, as the manifest of a set records them."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import numpy as np

from shards.building.build_plan import BuildRequest, Plan
from shards.building.provenance import describe, held_to
from shards.building.tally import Tally
from shards.manifest import SourceFile
from shards.sources.image_files import ImageFiles
from shards.sources.registry import FORMATS


def describe_source(
    request: BuildRequest, planned: Plan, stopped: threading.Event
) -> tuple[tuple[SourceFile, ...], Tally, tuple[str, ...]]:
    """Compute the checksums of the source's files.

    For a folder of images, also compute the checksums of the images that the set does not take.

    Returns:
        The entries of the source's files in the manifest; a tally with the total size and the total
        checksum of the images that the set does not take; the value of `Manifest.checks`.
    """
    source, unselected = planned.source, Tally()
    known = FORMATS[request.source]
    published = known.md5 if request.md5 else {}
    described = [
        describe(path, published.get(path.name), known.contents.get(path.name, {}), stopped)
        for path in source.paths
        if not path.is_dir()
    ]
    if planned.folder is not None:
        for index in np.setdiff1d(np.arange(len(source)), planned.order).tolist():
            if stopped.is_set():
                raise CancelledError
            assert isinstance(source, ImageFiles)
            unselected.note_file(source.name(index), *source.digest(index))
    checks = held_to(planned.manifest.checks, any(one.is_packed_anew for one in described))
    return tuple(one.file for one in described), unselected, checks
