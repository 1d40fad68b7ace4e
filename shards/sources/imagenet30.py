"""ImageNet-30: the folders `one_class_train` and `one_class_test`, or archives of these folders.

one_class_train/<class>/<wnid>_<k>.JPEG           39,000 = 30 x 1,300
one_class_test/<class>/<wnid>/<name>.JPEG         3,000 = 30 x 100
"""

from __future__ import annotations

from pathlib import Path

from shards.errors import UserError
from shards.sources.archives import open_files
from shards.sources.image_files import ImageFiles

CLASSES = (
    "acorn",
    "airliner",
    "ambulance",
    "american_alligator",
    "banjo",
    "barn",
    "bikini",
    "digital_clock",
    "dragonfly",
    "dumbbell",
    "forklift",
    "goblet",
    "grand_piano",
    "hotdog",
    "hourglass",
    "manhole_cover",
    "mosque",
    "nail",
    "parking_meter",
    "pillow",
    "revolver",
    "rotary_dial_telephone",
    "schooner",
    "snowmobile",
    "soccer_ball",
    "stingray",
    "strawberry",
    "tank",
    "toaster",
    "volcano",
)


def open_imagenet30(path: Path, split: str) -> ImageFiles:
    """Open all images below a folder or in an archive.

    Args:
        path: The folder or archive of one split.
        split: "train" or "test". It is not used, because `path` has only one split.

    Raises:
        UserError: There is no image, or an image is not in one of the 30 class folders.
    """
    files = open_files(path, by_name=True)
    indexes = files.images()
    label_of = {name: label for label, name in enumerate(CLASSES)}
    labels = []
    for i in indexes:
        found = [label_of[part] for part in files.names[i].split("/")[:-1] if part in label_of]
        if not found:
            raise UserError(f"{path}: {files.names[i]!r} is in none of the 30 class folders")
        labels.append(found[0])
    return ImageFiles(files, indexes, labels, CLASSES)
