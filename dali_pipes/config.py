"""How views are made: which engine, which reader, how many threads. None of it changes the laws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dali_pipes.batch import ViewSpec
from shards.errors import UserError

PRODUCT_MAX_PX = 64
"""Largest side of a source for the engine `product`: its products and its tables of operators grow
with it, and enlarging, which it is fast at, is what small sources need."""


@dataclass(frozen=True)
class LoaderConfig:
    """How the views are made."""

    engine: Literal["auto", "dali", "product"] = "auto"
    """dali = a DALI graph, for images of any size; product = matrix products, for images of up to
    64 px, and nearer to Pillow; auto = product where it can be used."""
    reader: Literal["stream", "resident"] = "stream"
    """stream = read each step's images from the shards; resident = hold all pixels in memory (with
    product: of the training device), after checking every byte of the shards."""
    resident_gb: float = 8.0
    """Most memory that the resident reader may take for pixels, on each rank, in 1e9 bytes."""
    threads: int = 4
    """CPU threads of the DALI graph, for each rank."""

    def engine_for(self, source_px: int, spec: ViewSpec) -> Literal["dali", "product"]:
        """The engine for images of this side.

        Raises:
            UserError: `product` was asked for and cannot make these views.
        """
        if self.engine == "dali":
            return "dali"
        reason = ""
        if source_px > PRODUCT_MAX_PX:
            reason = f"the images are of {source_px} px, more than {PRODUCT_MAX_PX}"
        elif spec.photometric_space == "view":
            reason = "views.photometric_space is view"
        if reason and self.engine == "product":
            raise UserError(f"loader.engine is product, but {reason}; use loader.engine dali")
        return "dali" if reason else "product"

    def check(self) -> None:
        """Refuse values that no loader can be made from.

        Raises:
            UserError: names the field and its value.
        """
        if self.threads < 1:
            raise UserError(f"loader.threads is {self.threads}, expected at least 1")
        if not self.resident_gb > 0:
            raise UserError(f"loader.resident_gb is {self.resident_gb}, expected more than 0")
