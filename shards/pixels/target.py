"""The form in which a set stores its images."""

from __future__ import annotations

from dataclasses import dataclass

from shards.pixels.levels import WHITE, Intensity
from shards.pixels.resize import Resize


@dataclass(frozen=True)
class Target:
    """Size, channels and encoding of the images of a set, and how they are brought to these."""

    size_px: int
    channels: int
    encoding: str
    resize: Resize
    background: str = WHITE
    """What transparent images are laid on, and the margins of a `-pad` rule: #rrggbb."""
    intensity: Intensity | None = None
    """The values that become 0 and 255 where an image file does not state its range."""

    @property
    def sample_bytes(self) -> int:
        """Of the pixels of an image."""
        return self.size_px * self.size_px * self.channels

    def keeps(self, shape: tuple[int, ...]) -> bool:
        """Whether pixels of this shape are stored as they are."""
        return self.encoding == "raw" and shape == (self.size_px, self.size_px, self.channels)
