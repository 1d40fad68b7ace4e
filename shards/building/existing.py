"""A check that a set that exists already is the set that a request would build."""

from __future__ import annotations

import dataclasses

from shards.building.build_plan import BuildRequest, plan
from shards.building.provenance import MD5_OF_CONTENTS, held_to, source_name
from shards.errors import UserError
from shards.manifest import Manifest
from shards.verify import verify_shards


def checked_existing(request: BuildRequest) -> Manifest:
    """Check that the existing set in `request.out` is the set that `request` would build.

    The files of the source are compared by name and size only, because computing the checksums of
    ImageNet would take too long.

    Returns:
        The manifest of the existing set.

    Raises:
        UserError: The set is damaged, or another request has built it. The message names the field
            that differs.
    """
    existing = verify_shards(request.out)
    planned = plan(request)
    asked = dataclasses.replace(
        planned.manifest,
        # These are known only when a set is built.
        samples=existing.samples,
        rejects=existing.rejects,
        rejects_sha256=existing.rejects_sha256,
        names_sha256=existing.names_sha256,
        shards=existing.shards,
        sizes_sha256=existing.sizes_sha256,
        resize=existing.resize if existing.resize == "none" else request.resize,
        sources=existing.sources,
        # Other files beside the images may have come or gone, and older sets lack this field.
        passed_over=existing.passed_over,
        # Official images are not transparent, and older sets lack this field.
        background=existing.background and planned.manifest.background,
        checks=held_to(planned.manifest.checks, MD5_OF_CONTENTS in existing.checks),
    )
    for field in dataclasses.fields(Manifest):
        _refuse_other(
            request, field.name, getattr(existing, field.name), getattr(asked, field.name)
        )
    sizes = {source.file: source.bytes for source in existing.sources}
    now = {
        name: sizes.get(name, 0) if path.is_dir() else path.stat().st_size
        for path in planned.source.paths
        for name in [source_name(path)]
    }
    _refuse_other(request, "sources", sizes, now)
    images = existing.samples + existing.rejects
    _refuse_other(request, "number of images", images, len(planned.order))
    return existing


def _refuse_other(request: BuildRequest, field: str, there: object, asked: object) -> None:
    if there != asked:
        raise UserError(
            f"{request.out}: exists with another {field} ({there}, not {asked}); "
            "remove it or name another output folder"
        )
