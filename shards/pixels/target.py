"""The form in which a set stores its images."""

from __future__ import annotations

from dataclasses import dataclass

from shards.pixels.levels import WHITE, Intensity
from shards.pixels.resize import Resize


@dataclass(frozen=True)
class Target:
    """The size, channels and encoding of a set's images, and the rules for converting images."""

    size_px: int
    channels: int
    encoding: str
    resize: Resize
    background: str = WHITE
    """The colour behind transparent parts of images and in the margins of padded images, as
    #rrggbb."""
    intensity: Intensity | None = None
    """The two values that become 0 and 255 in image files that do not state the range of their
    values. None means that such files are refused."""

    @property
    def sample_bytes(self) -> int:
        """The size in bytes of one image as raw pixels."""
        return self.size_px * self.size_px * self.channels

    def keeps(self, shape: tuple[int, ...]) -> bool:
        """True if the set stores pixels of this shape [H,W,C] unchanged, without encoding them."""
        return self.encoding == "raw" and shape == (self.size_px, self.size_px, self.channels)
