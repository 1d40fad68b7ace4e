"""A table of all formats: file names, opening functions, published MD5 sums and image counts.

The MD5 sums and counts are those of the authors, of torchvision or of other users. The opening
functions do not check them, so a user can also open a part of a data set. The file is long because
the table is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from shards.sources.cifar import CIFAR10, CIFAR100, CIFAR100_COARSE, open_cifar
from shards.sources.dtd import SPLITS as DTD_SPLITS
from shards.sources.dtd import open_dtd
from shards.sources.folder import open_class_folders, open_folder
from shards.sources.idx import FASHION_CLASSES, KMNIST_CLASSES, STEMS, open_idx
from shards.sources.imagenet import open_imagenet
from shards.sources.imagenet30 import open_imagenet30
from shards.sources.lsun import open_lsun
from shards.sources.npy import open_npy
from shards.sources.places365 import open_places365
from shards.sources.source import Source
from shards.sources.stl10 import open_stl10
from shards.sources.svhn import open_svhn
from shards.sources.tiny_imagenet import open_tiny_imagenet
from shards.sources.webdataset import open_webdataset


@dataclass(frozen=True)
class Format:
    """A published format, or a data set in such a format."""

    open: Callable[..., Source]
    """The function (src, split) -> Source, where src is a path that `locate` has found. If
    `takes_component`, the function also takes a component, and src may be a URL or a pattern."""
    splits: tuple[str, ...] = ()
    """The names of the splits. If empty, any split name is accepted."""
    files: tuple[str, ...] = ()
    """Names of files or folders that hold the data set, best first. "{split}" stands for the split.
    A name with "./" is not searched in subfolders, because other data sets use the same name."""
    md5: Mapping[str, str] = field(default_factory=dict)
    """The published MD5 sum of each official file: file name -> MD5 sum."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """The published number of images in each split: split -> number."""
    get_it: str = ""
    """A URL of the official files, or a hint where to find them."""
    are_splits_disjoint: bool = True
    """True if no image is in more than one split."""
    takes_component: bool = False
    """True if a sample has several components, and one of them is its image (WebDataset)."""
    contents: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The published MD5 sums of the files in each archive: archive -> name of file -> MD5 sum. If
    the same files are packed again, the MD5 sum of the archive changes, but these sums do not. So
    they show that such an archive is not damaged."""


def _mnist_like(
    folders: tuple[str, ...],
    md5: tuple[str, ...],
    get_it: str,
    classes: tuple[str, ...] = (),
    unpacked_md5: tuple[str, ...] = (),
) -> Format:
    kinds = ("images-idx3", "labels-idx1")
    names = [f"{stem}-{kind}-ubyte.gz" for stem in STEMS.values() for kind in kinds]
    return Format(
        partial(open_idx, classes=classes),
        ("train", "test"),
        (*folders, *_IDX_FILES),
        dict(zip(names, md5, strict=True)),
        {"train": 60_000, "test": 10_000},
        get_it,
        contents={
            name: {name.removesuffix(".gz"): its_md5}
            for name, its_md5 in zip(names, unpacked_md5, strict=bool(unpacked_md5))
        },
    )


_IDX_FILES = tuple(
    f"./{stem}-images-idx3-ubyte{suffix}" for stem in STEMS.values() for suffix in (".gz", "")
)
_PLACES_LISTS = {
    "places365_val.txt": "e9f2fd57bfd9d07630173f4e8708e4b1",
    "categories_places365.txt": "06c963b85866bd0649f97cb43dd16673",
}
_CIFAR_COUNTS = {"train": 50_000, "test": 10_000}
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar.html"
_ODIN_URL = "https://github.com/facebookresearch/odin (links in its README)"
_CSI_URL = "https://github.com/alinlab/CSI (links in its README)"


def _archived(
    open_archive: Callable[[Any, str], Source],
    counts: Mapping[str, int],
    get_it: str,
    names: tuple[str, str],
    md5: str,
    contents: Mapping[str, str],
) -> Format:
    """Return the format of an archive `names[0]`, which unpacks to the folder `names[1]`."""
    sums, packed = {names[0]: md5, **contents}, {names[0]: contents}
    return Format(open_archive, tuple(counts), names, sums, counts, get_it, contents=packed)


def _cifar100(kind: Any) -> Format:
    return _archived(
        partial(open_cifar, kind=kind),
        _CIFAR_COUNTS,
        _CIFAR_URL,
        ("cifar-100-python.tar.gz", "cifar-100-python"),
        "eb9058c3a382ffc7106e4002c42a8d85",
        {
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
    )


def _images_10k(name: str, get_it: str, md5: str = "") -> Format:
    """Return the format of a test set: 10,000 unlabelled image files in `name`.tar.gz or `name`."""
    archive = f"{name}.tar.gz"
    sums = {archive: md5} if md5 else {}
    opened = partial(open_folder, by_name=True)
    return Format(opened, ("test",), (archive, name), sums, {"test": 10_000}, get_it)


FORMATS: dict[str, Format] = {
    "folder": Format(open_folder),
    "class-folders": Format(open_class_folders),
    "npy": Format(open_npy),
    "webdataset": Format(open_webdataset, takes_component=True),
    "idx": Format(open_idx, ("train", "test"), _IDX_FILES),
    "mnist": _mnist_like(
        ("mnist", "MNIST/raw"),
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    "fashion-mnist": _mnist_like(
        ("fashion-mnist", "FashionMNIST/raw"),
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        "https://github.com/zalandoresearch/fashion-mnist, or Debian's dataset-fashion-mnist",
        FASHION_CLASSES,
        # MD5 sums of the unpacked files, because Debian's .gz files have other gzip headers.
        (
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
    ),
    "kmnist": _mnist_like(
        ("kmnist", "KMNIST/raw"),
        (
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        "https://github.com/rois-codh/kmnist",
        KMNIST_CLASSES,
    ),
    "cifar10": _archived(
        partial(open_cifar, kind=CIFAR10),
        _CIFAR_COUNTS,
        _CIFAR_URL,
        ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
        "c58f30108f718f92721af3b95e74349a",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
    ),
    "cifar100": _cifar100(CIFAR100),
    "cifar100-coarse": _cifar100(CIFAR100_COARSE),
    "svhn": Format(
        open_svhn,
        ("train", "test", "extra"),
        ("{split}_32x32.mat",),
        {
            "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
            "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
            "extra_32x32.mat": "a93ce644f1a588dc4d68dda5feec44a7",
        },
        {"train": 73_257, "test": 26_032, "extra": 531_131},
        "http://ufldl.stanford.edu/housenumbers/",
    ),
    "stl10": _archived(
        open_stl10,
        {"train": 5_000, "test": 8_000, "unlabeled": 100_000},
        "https://cs.stanford.edu/~acoates/stl10/",
        ("stl10_binary.tar.gz", "stl10_binary"),
        "91f7769df0f17e558f3565bffb0c7dfb",
        {
            "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
            "train_y.bin": "5a34089d4802c674881badbb80307741",
            "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
            "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
            "unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
        },
    ),
    "tiny-imagenet": Format(
        open_tiny_imagenet,
        ("train", "val", "test"),
        ("tiny-imagenet-200.zip", "tiny-imagenet-200"),
        {"tiny-imagenet-200.zip": "90528d7ca1a48142e341f4ef8d21d0de"},
        {"train": 100_000, "val": 10_000, "test": 10_000},
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    ),
    "lsun": Format(
        open_lsun,
        ("test",),
        ("test_lmdb",),
        counts={"test": 10_000},
        get_it="https://github.com/fyu/lsun (python3 download.py -c test), unzipped",
    ),
    "lsun-resize": _images_10k("LSUN_resize", _ODIN_URL, "278b7b31c8cb7e804a1465a8ce03a2dc"),
    "imagenet-resize": _images_10k(
        "Imagenet_resize", _ODIN_URL, "0f9ff11d45babf2eff5fe12281d1ac31"
    ),
    "lsun-fix": _images_10k("LSUN_fix", _CSI_URL),
    "imagenet-fix": _images_10k("Imagenet_fix", _CSI_URL),
    "places365": Format(
        open_places365,
        ("val", "test"),
        ("{split}_256.tar", "{split}_256"),
        {
            "val_256.tar": "e27b17d8d44f4af9a78502beb927f808",
            "test_256.tar": "f532f6ad7b582262a2ec8009075e186b",
            "filelist_places365-standard.tar": "35a0585fee1fa656440f3ab298f8479c",
            **_PLACES_LISTS,
        },
        {"val": 36_500, "test": 328_500},
        "http://places2.csail.mit.edu/download.html, with filelist_places365-standard.tar",
        contents={"filelist_places365-standard.tar": _PLACES_LISTS},
    ),
    "dtd": Format(
        open_dtd,
        DTD_SPLITS,
        ("dtd-r1.0.1.tar.gz", "dtd"),
        {"dtd-r1.0.1.tar.gz": "fff73e5086ae6bdbea199a49dfb8a4c1"},
        {split: 5_640 if split == "all" else 1_880 for split in DTD_SPLITS},
        "https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        # "all" contains all other splits, and each of the ten divisions divides the same images.
        are_splits_disjoint=False,
    ),
    "imagenet30": Format(
        open_imagenet30,
        ("train", "test"),
        (
            "one_class_{split}.tar.gz",
            "one_class_{split}.tar",
            "one_class_{split}.zip",
            "one_class_{split}",
        ),
        counts={"train": 39_000, "test": 3_000},
        get_it=_CSI_URL,
    ),
    "imagenet": Format(
        open_imagenet,
        ("train", "val"),
        (
            "ILSVRC2012_img_{split}.tar",
            "ILSVRC2012_img_{split}",
            "ILSVRC/Data/CLS-LOC/{split}",
            "imagenet/{split}",
        ),
        {
            "ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e",
            "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
        },
        {"train": 1_281_167, "val": 50_000},
        "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php",
    ),
    "tiny-images-300k": Format(
        open_npy,
        ("train",),
        ("300K_random_images.npy",),
        {"300K_random_images.npy": "64ca64357de98351f28454274a112dc3"},
        {"train": 300_000},
        "https://people.eecs.berkeley.edu/~hendrycks/300K_random_images.npy",
    ),
}
