"""The options of the loader: engine, reader and threads.

None of them changes the distribution of the views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dali_pipes.batch import ViewSpec
from shards.errors import UserError

PRODUCT_MAX_PX = 64
"""Largest side of an image for the engine `product`. Its matrix products and its tables of
operators grow with the side, and it is fast at enlarging, which only small images need."""


@dataclass(frozen=True)
class LoaderConfig:
    """Engine, reader and threads that make the views."""

    engine: Literal["auto", "dali", "product"] = "auto"
    """dali = a DALI graph, for images of any size; product = matrix products, for images of up to
    64 px, and closer to Pillow's results; auto = product wherever it can be used."""
    reader: Literal["stream", "resident"] = "stream"
    """stream = read each step's images from the shards; resident = check every byte of the shards,
    then hold all pixels in memory (with product: in the memory of the training device)."""
    resident_gb: float = 8.0
    """Largest memory that the resident reader may use for pixels, on each rank, in 1e9 bytes."""
    threads: int = 4
    """CPU threads of the DALI graph, for each rank."""

    def engine_for(self, image_px: int, spec: ViewSpec) -> Literal["dali", "product"]:
        """Return the engine for images of this side.

        Raises:
            UserError: the engine is set to `product`, which cannot make these views.
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
        """Refuse values from which no loader can be made.

        Raises:
            UserError: a value is out of range; the message names the field.
        """
        if self.threads < 1:
            raise UserError(f"loader.threads is {self.threads}, expected at least 1")
        if not self.resident_gb > 0:
            raise UserError(f"loader.resident_gb is {self.resident_gb}, expected more than 0")
