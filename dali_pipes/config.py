"""The options of the loader: engine, reader and threads.

No option changes the distribution of the views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dali_pipes.batch import ViewSpec
from shards.errors import UserError

PRODUCT_MAX_PX = 64
"""The largest side of an image for which the engine `product` is used, in pixels. The engine is
fast when it enlarges images, which only small images need, and its matrices grow with the side."""


@dataclass(frozen=True)
class LoaderConfig:
    """The options of the loader: the engine that makes the views, the reader, and the threads."""

    engine: Literal["auto", "dali", "product"] = "auto"
    """Engine that makes the views. dali = a DALI graph, for images of any size; product = matrix
    products, for images of up to 64 px, and closer to Pillow's results; auto = product if it can
    make the views, otherwise dali."""
    reader: Literal["stream", "resident"] = "stream"
    """Reader of the images. stream = it reads from the shards, at each step; resident = it reads
    from memory, into which all pixels are loaded at the start, after every byte of the shards has
    been checked. With the engine product, this is the memory of the training device."""
    resident_gb: float = 8.0
    """Amount of memory per rank, in 1e9 bytes, that the resident reader may use for pixels."""
    threads: int = 4
    """Number of CPU threads of the DALI graph, per rank."""

    def engine_for(self, image_px: int, spec: ViewSpec) -> Literal["dali", "product"]:
        """Return the engine that makes the views of images whose larger side is `image_px`.

        Raises:
            UserError: `engine` is set to `product`, but this engine cannot make these views.
        """
        if self.engine == "dali":
            return "dali"
        reason = ""
        if image_px > PRODUCT_MAX_PX:
            reason = f"the images are of {image_px} px, more than {PRODUCT_MAX_PX}"
        elif spec.photometric_space == "view":
            reason = "views.photometric_space is view"
        if reason and self.engine == "product":
            raise UserError(f"loader.engine is product, but {reason}; use loader.engine dali")
        return "dali" if reason else "product"

    def check(self) -> None:
        """Check that a loader can be made with these values.

        Raises:
            UserError: A value is out of range; the message names the field.
        """
        if self.threads < 1:
            raise UserError(f"loader.threads is {self.threads}, expected at least 1")
        if not self.resident_gb > 0:
            raise UserError(f"loader.resident_gb is {self.resident_gb}, expected more than 0")
