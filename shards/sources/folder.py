"""A folder of image files, with or without a folder per class.

Links, pipes and hidden entries are not followed, so a folder cannot lead outside of itself.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from shards.cli import UserError
from shards.manifest import SourceFile
from shards.sources import Sample

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 89_478_485
"""An image with more is refused before it is decoded; Pillow's own limit, 0.25 GB as RGB."""


class FolderSource:
    """Image files below a folder, in the order of their relative paths."""

    def __init__(self, folder: Path, class_folders: bool = False, channels: int = 3) -> None:
        """List the files; nothing is decoded yet.

        Args:
            folder: The root.
            class_folders: The first-level folders are the classes, labelled in sorted order.
            channels: 3 decodes to RGB, 1 to gray.

        Raises:
            UserError: the folder is missing, has no image, or one outside of a class folder.
        """
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of images")
        # Pillow only warns between its limit and twice that.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        self._folder = folder
        self._mode = {1: "L", 3: "RGB"}[channels]
        self._names = sorted(_image_paths(folder, ""))
        if not self._names:
            raise UserError(f"{folder}: no images ({' '.join(EXTENSIONS)}) in it or below")
        self.classes: tuple[str, ...] = ()
        self.labels: np.ndarray | None = None
        if class_folders:
            first_parts = [name.split("/", 1)[0] for name in self._names]
            self.classes = tuple(sorted(e.name for e in _visible(folder) if _is_folder(e)))
            label_of = {name: label for label, name in enumerate(self.classes)}
            for name, part in zip(self._names, first_parts, strict=True):
                if part not in label_of:
                    raise UserError(f"{folder / name}: not in a class folder")
            self.labels = np.array([label_of[part] for part in first_parts], np.int64)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        """Decode image `index`, uint8 [H,W,C]."""
        name = self._names[index]
        label = None if self.labels is None else int(self.labels[index])
        return Sample(decode(self._folder / name, self._mode), label, name)

    def files(self) -> tuple[SourceFile, ...]:
        """One entry for the folder: all its bytes, sha256 over lines of "<path> <sha256 of file>".

        Lines are in the order of the images, paths relative and written as `repr` of their bytes.
        """
        total_bytes = 0
        digest = hashlib.sha256()
        for name in self._names:
            with open(self._folder / name, "rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                total_bytes += file.tell()
            digest.update(f"{os.fsencode(name)!r} {sha256}\n".encode())
        return (SourceFile(self._folder.resolve().name, total_bytes, digest.hexdigest()),)


def decode(path: Path, mode: str) -> np.ndarray:
    """The first frame of an image file, turned as its EXIF orientation says.

    Args:
        path: The file.
        mode: "RGB" or "L"; any other mode is converted to it, transparency is dropped.

    Returns:
        uint8 [H,W,3] or [H,W,1].

    Raises:
        UserError: the file is not an image, damaged, or larger than MAX_PIXELS.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            upright = _to_8_bit(ImageOps.exif_transpose(image)).convert(mode)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{path}: larger than {MAX_PIXELS} pixels: {error}") from error
    # Pillow's decoders raise nearly anything on damaged files (SyntaxError, struct.error, ...).
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be decoded: {reason}") from error
    pixels = np.asarray(upright)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit gray as 8-bit by its upper byte; Pillow's `convert` would clip it to white."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))


def _image_paths(folder: Path, prefix: str) -> list[str]:
    paths = []
    for entry in _visible(folder):
        if _is_folder(entry):
            paths += _image_paths(Path(entry.path), f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False) and entry.name.lower().endswith(EXTENSIONS):
            paths.append(prefix + entry.name)
    return paths


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)
