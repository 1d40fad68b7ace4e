"""The named protocols, as data: the image sets with which papers made the tables of their results.

A result without its protocol says little: the name "Places" has meant four different sets of
images. So a protocol states the image size and the resize rule, and for each set the official
split, the number of images and known ambiguities. The name of the protocol is written into the
manifest of each set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shards.pixels.resize import Resize
from shards.sources.idx import FASHION_CLASSES

Role = Literal["in-dist", "ood", "aux"]


@dataclass(frozen=True)
class NamedSet:
    """One set of a protocol."""

    name: str
    role: Role
    source: str
    """The format of the set's source: a name in `shards.sources.registry.FORMATS`."""
    split: str
    samples: int
    """The number of images that the set must have."""
    labels: tuple[int, ...] = ()
    """The labels of the images that are taken; empty means that all images are taken."""
    note: str = ""
    """A warning about something in this set that is ambiguous or easily mistaken; "" if none."""


@dataclass(frozen=True)
class Protocol:
    """A benchmark: in-distribution sets, out-of-distribution sets, and auxiliary images."""

    about: str
    """A description of the protocol: the paper, and what the paper compares."""
    size_px: int
    resize: Resize
    sets: tuple[NamedSet, ...]
    classes: tuple[str, ...] = ()
    """The class name of each label; empty if the official files hold the class names."""
    note: str = ""
    """A warning about the whole protocol; "" if none."""


def _cifar(*names: str) -> tuple[NamedSet, ...]:
    """Return the training and test splits of the named CIFAR sets, as in-distribution sets.

    CIFAR-10 also serves as the OOD set for CIFAR-100, and CIFAR-100 as the OOD set for CIFAR-10.
    """
    return tuple(
        NamedSet(f"{name}-{split}", "in-dist", name, split, samples)
        for name in names
        for split, samples in (("train", 50_000), ("test", 10_000))
    )


def _of_10k(name: str, note: str = "") -> NamedSet:
    """Return an OOD set of 10,000 test images whose format has its own name."""
    return NamedSet(name, "ood", name, "test", 10_000, note=note)


RESIZED = "its resizing gives it away: it tests a pipeline, not a detector"
SVHN = NamedSet("svhn", "ood", "svhn", "test", 26_032)
TEXTURE = NamedSet(
    "texture",
    "ood",
    "dtd",
    "all",
    5_640,
    note="all three splits, as in the public code of SSD and OE; the paper does not say which; "
    "test1 alone has 1,880",
)
LSUN = _of_10k("lsun", "the whole test set, not LSUN_resize or LSUN_fix")
RANDOM_300K = NamedSet("dti", "aux", "tiny-images-300k", "train", 300_000)

ICANN22 = Protocol(
    about="Tables 1 and 2 of the paper (ICANN 2022): CIFAR-10 or CIFAR-100 against eight sets",
    size_px=32,
    resize="pillow-bicubic",
    sets=(
        *_cifar("cifar10", "cifar100"),
        SVHN,
        NamedSet(
            "imagenet30",
            "ood",
            "imagenet30",
            "test",
            3_000,
            note="as published with CSI; 1,192 of its files are renumbered, so it cannot be made "
            "from the files of ImageNet",
        ),
        _of_10k(
            "tiny-imagenet",
            "val has 10,000 images too, and the paper does not say which split it used; made "
            "from ImageNet: look for overlap with the auxiliary images",
        ),
        LSUN,
        NamedSet(
            "stl10",
            "ood",
            "stl10",
            "test",
            8_000,
            note="9 of its 10 classes are those of CIFAR-10 under other names; made from ImageNet: "
            "look for overlap with the auxiliary images",
        ),
        NamedSet(
            "places365",
            "ood",
            "places365",
            "val",
            36_500,
            note="the paper does not say which images; here all of val_256 (OE has Places69, "
            "OpenOOD a part of val)",
        ),
        TEXTURE,
        NamedSet("imagenet", "aux", "imagenet", "train", 1_281_167),
        RANDOM_300K,
    ),
)

OE19 = Protocol(
    about="Outlier Exposure (Hendrycks et al. 2019), the sets that are published as images",
    size_px=32,
    resize="pillow-bilinear-crop",
    sets=(
        *_cifar("cifar10", "cifar100"),
        NamedSet("svhn-train", "in-dist", "svhn", "train", 73_257),
        SVHN,
        TEXTURE,
        LSUN,
        RANDOM_300K,
    ),
    note="the paper draws 2,000 images of each OOD set against 10,000, ten times; Gaussian, "
    "Rademacher and blob noise and Places69 are not published as files; the auxiliary 80 Million "
    "Tiny Images were withdrawn, these 300,000 are the replacement by the paper's authors",
)

CSI20 = Protocol(
    about="CSI (Tack et al. 2020), unlabelled CIFAR-10",
    size_px=32,
    resize="pillow-bilinear",
    sets=(
        *_cifar("cifar10"),
        NamedSet("cifar100", "ood", "cifar100", "test", 10_000),
        SVHN,
        _of_10k("lsun-resize", RESIZED),
        _of_10k("imagenet-resize", RESIZED),
        _of_10k("lsun-fix"),
        _of_10k(
            "imagenet-fix",
            "made from ImageNet's training images: look for overlap with the auxiliary images",
        ),
    ),
    note="two parts of the paper are not here: Interp., a mixture of CIFAR-10's test images, and "
    "ImageNet-30 at 224 px",
)

FASHION_ONE_CLASS = Protocol(
    about="Fashion-MNIST, each class in turn against the -test sets of the nine others",
    size_px=28,
    resize="pillow-bicubic",
    sets=tuple(
        NamedSet(f"{name}-{split}", "in-dist", "fashion-mnist", split, samples, (label,))
        for label, name in enumerate(FASHION_CLASSES)
        for split, samples in (("train", 6_000), ("test", 1_000))
    ),
)

FOOTWEAR = (5, 7, 9)
FASHION_FOOTWEAR = Protocol(
    about="the sample that comes with this project: shoes against clothes and bags",
    size_px=28,
    resize="pillow-bicubic",
    sets=(
        NamedSet("in-dist-train", "in-dist", "idx", "train", 6_144, FOOTWEAR),
        NamedSet("in-dist-test", "in-dist", "idx", "test", 900, FOOTWEAR),
        *(
            NamedSet(name, "ood", "idx", "test", 300, (label,))
            for label, name in enumerate(FASHION_CLASSES)
            if label not in FOOTWEAR
        ),
    ),
    classes=FASHION_CLASSES,
)

PROTOCOLS = {
    "icann22": ICANN22,
    "oe19": OE19,
    "csi20": CSI20,
    "fashion-one-class": FASHION_ONE_CLASS,
    "fashion-footwear": FASHION_FOOTWEAR,
}
