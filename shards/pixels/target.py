"""The form in which a set stores its images."""

from __future__ import annotations

from dataclasses import dataclass

from shards.pixels.levels import WHITE, Intensity
from shards.pixels.resize import Resize


@dataclass(frozen=True)
class Target:
    """The size, channels and encoding of the images of a set, and the rules of their conversion."""

    size_px: int
    channels: int
    encoding: str
    resize: Resize
    background: str = WHITE
    """The colour behind transparent images, and of the margins of a `-pad` rule: #rrggbb."""
    intensity: Intensity | None = None
    """The values that become 0 and 255 if an image file does not state its range."""

    @property
    def sample_bytes(self) -> int:
        """The size of the pixels of an image, bytes."""
        return self.size_px * self.size_px * self.channels

    def keeps(self, shape: tuple[int, ...]) -> bool:
        """True if pixels of this shape are stored unchanged."""
        return self.encoding == "raw" and shape == (self.size_px, self.size_px, self.channels)
