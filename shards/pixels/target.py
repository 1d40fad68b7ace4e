"""The form in which a set stores its images."""

from __future__ import annotations

from dataclasses import dataclass

from shards.pixels.levels import WHITE, Intensity
from shards.pixels.resize import Resize


@dataclass(frozen=True)
class Target:
    """The size, channels and encoding of a set's images, and the rules for converting images."""

    size_px: int
    """The height and width of the stored images, in pixels."""
    channels: int
    """The number of channels of the stored images: 1 (gray) or 3 (RGB)."""
    encoding: str
    """The form of a stored image: "raw" = its pixels, uint8 [H,W,C]; "png" = a PNG file; "jpg" = a
    JPEG file."""
    resize: Resize
    """The rule that makes an image square and resizes it to `size_px`."""
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
