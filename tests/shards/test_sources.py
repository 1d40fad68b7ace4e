"""Sources of each format give what was written, and what torchvision reads from the same files."""

import functools
import gzip
import io
import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets as peers
from PIL import Image

from shards.errors import UserError
from shards.sources.registry import FORMATS, locate, open_source
from shards.sources.source import Source
from tests.support import source_cases as cases
from tests.support.paths import SAMPLE
from tests.support.source_cases import Split

WRITERS = {
    "cifar10": cases.write_cifar10,
    "cifar100": cases.write_cifar100,
    "svhn": functools.partial(cases.write_svhn, height_px=27),
    "stl10": cases.write_stl10,
    "tiny-imagenet": cases.write_tiny_imagenet,
    "lsun": cases.write_lsun,
    "lsun-resize": functools.partial(cases.write_images, name="LSUN_resize"),
    "imagenet-resize": functools.partial(cases.write_images, name="Imagenet_resize", kind="JPEG"),
    "lsun-fix": functools.partial(cases.write_images, name="LSUN_fix"),
    "imagenet-fix": functools.partial(cases.write_images, name="Imagenet_fix"),
    "places365": cases.write_places365,
    "dtd": cases.write_dtd,
    "imagenet30": cases.write_imagenet30,
    "imagenet": cases.write_imagenet,
    "tiny-images-300k": cases.write_tiny_images,
    "idx": functools.partial(cases.write_idx, size=(28, 25)),
    "mnist": cases.write_idx,
    "fashion-mnist": functools.partial(cases.write_idx, classes=cases.FASHION_CLASSES),
    "webdataset": cases.write_webdataset,
}


def check(source: Source, expected: Split) -> None:
    """Compare everything that a source gives with a split."""
    assert len(source) == len(expected.images)
    assert [source.name(i) for i in range(len(source))] == expected.names
    assert source.classes == tuple(expected.classes)
    assert (None if source.labels is None else source.labels.tolist()) == expected.labels
    assert source.labels is None or source.labels.dtype == np.int64
    for i, image in enumerate(expected.images):
        read = source.read(i)
        assert type(read) is type(image)
        if isinstance(image, bytes):
            assert (read, source.channels) == (image, 3)
        else:
            assert (read.dtype, source.channels) == (np.uint8, image.shape[2])
            assert np.array_equal(read, image)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "unpacked"])
@pytest.mark.parametrize("name", WRITERS)
def test_all_that_was_written_is_read(tmp_path: Path, name: str, packed: bool) -> None:
    for split, expected in WRITERS[name](tmp_path, packed=packed).items():
        source = open_source(name, tmp_path, split)
        check(source, expected)
        located = locate(name, split, tmp_path)
        assert located is not None
        check(FORMATS[name].open(located, split), expected)
        assert source.paths == open_source(name, located, split).paths
        assert all(path.exists() for path in source.paths)
        if packed and FORMATS[name].md5:
            # Paths name the official files, for which the md5 sums are published.
            published = FORMATS[name].md5.keys()
            assert all(path.is_file() for path in source.paths)
            assert {path.name for path in source.paths} & published or "fix" in name


def test_no_format_is_left_out() -> None:
    tried_elsewhere = {"folder", "class-folders", "npy", "cifar100-coarse", "kmnist"}
    assert set(FORMATS) == set(WRITERS) | tried_elsewhere


def test_every_format_of_the_protocols_is_found(tmp_path: Path) -> None:
    for name, splits in cases.write_all(tmp_path).items():
        for split, expected in splits.items():
            check(open_source(name, tmp_path, split), expected)
    # Fashion-MNIST is there and has files of the same names, but they are not MNIST.
    assert locate("mnist", "train", tmp_path) is None


@pytest.mark.parametrize(
    ("src", "found"),
    [
        (".", "d/ILSVRC2012_img_train.tar"),
        ("a", "a/b/imagenet/train"),
        ("a/b", "a/b/imagenet/train"),
        ("a/b/imagenet", "a/b/imagenet/train"),
        ("a/b/imagenet/train", "a/b/imagenet/train"),
        ("a/b/imagenet/val", None),
        ("d", "d/ILSVRC2012_img_train.tar"),
        ("d/ILSVRC2012_img_train.tar", "d/ILSVRC2012_img_train.tar"),
        ("e", None),
        ("e/1", "e/1/2/3/imagenet/train"),
        ("nowhere", None),
    ],
)
def test_locate(tmp_path: Path, src: str, found: str | None) -> None:
    for folder in ("a/b/imagenet/train", "a/b/imagenet/val", "d", "e/1/2/3/imagenet/train"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "d" / "ILSVRC2012_img_train.tar").touch()
    expected = None if found is None else tmp_path / found
    assert locate("imagenet", "train", tmp_path / src) == expected


def test_locate_passes_over_what_may_not_be_read(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "z" / "imagenet" / "train").mkdir(parents=True)
    locked = [tmp_path / "lost+found", tmp_path / "z" / "locked"]
    for folder in locked:
        folder.mkdir()
    (tmp_path / "into").symlink_to(locked[0] / "x")
    scandir, stat = os.scandir, os.stat

    # Permissions are imitated, because tests may run as root, who may read all.
    def refuse(call: Any, path: Any, *args: Any, **options: Any) -> Any:
        target = Path(path)
        if target.name == "into" or target in locked[call is stat :] or target.parent in locked:
            raise PermissionError(13, "Permission denied", str(path))
        return call(path, *args, **options)

    monkeypatch.setattr(os, "scandir", functools.partial(refuse, scandir))
    monkeypatch.setattr(os, "stat", functools.partial(refuse, stat))
    assert locate("imagenet", "train", tmp_path) == tmp_path / "z" / "imagenet" / "train"
    assert locate("cifar10", "train", tmp_path) is None
    with pytest.raises(PermissionError):
        locate("cifar10", "train", locked[0])


def dtd_by_torchvision(root: Path, split: str) -> Iterable[Any]:
    return peers.DTD(root, split[:-1], int(split[-1]))


def lsun_by_torchvision(root: Path, split: str) -> Iterable[Any]:
    found = peers.lsun.LSUNClass(str(root / f"{split}_lmdb"))
    pairs = list(found)
    found.env.close()
    return pairs


def imagenet30_by_torchvision(root: Path, split: str) -> Iterable[Any]:
    numbers = list(cases.IMAGENET30)  # Three of its 30 classes are written.
    return peers.ImageFolder(root / f"one_class_{split}", target_transform=numbers.__getitem__)


def places365_by_torchvision(root: Path, split: str) -> Iterable[Any]:
    found = peers.Places365(root, split, small=True)
    order = sorted(range(len(found)), key=lambda i: found.imgs[i][0])
    return [found[i] for i in order]


PEERS = {
    # Format: its folder below the root; its splits; the reading by torchvision.
    "cifar10": ("", "train test", lambda root, split: peers.CIFAR10(root, split == "train")),
    "cifar100": ("", "train test", lambda root, split: peers.CIFAR100(root, split == "train")),
    "svhn": ("", "train test extra", peers.SVHN),
    "stl10": ("", "train test", peers.STL10),
    "dtd": ("dtd", "train1 val1 test1", dtd_by_torchvision),
    "lsun": ("", "test", lsun_by_torchvision),
    "places365": ("", "val", places365_by_torchvision),
    "imagenet30": ("", "train test", imagenet30_by_torchvision),
    "tiny-imagenet": (
        "",
        "train",
        lambda root, split: peers.ImageFolder(root / "tiny-imagenet-200" / split),
    ),
    "imagenet": (
        "",
        "train",
        lambda root, split: peers.ImageFolder(root / f"ILSVRC2012_img_{split}"),
    ),
    "fashion-mnist": (
        "FashionMNIST/raw",
        "train test",
        lambda root, split: peers.FashionMNIST(root, split == "train"),
    ),
    "kmnist": (
        "KMNIST/raw",
        "train test",
        lambda root, split: peers.KMNIST(root, split == "train"),
    ),
    "mnist": ("MNIST/raw", "train test", lambda root, split: peers.MNIST(root, split == "train")),
}


@pytest.mark.parametrize("name", PEERS)
def test_as_torchvision_reads_it(tmp_path: Path, name: str, monkeypatch) -> None:
    folder, splits, read = PEERS[name]
    monkeypatch.chdir(tmp_path)  # torchvision's LSUN writes a cache to the current folder.
    for module in (peers.cifar, peers.svhn, peers.stl10, peers.places365):
        monkeypatch.setattr(module, "check_integrity", lambda *_, **__: True)
    writer = {**WRITERS, "kmnist": cases.write_idx}[name]
    writer(tmp_path / folder, packed=False)
    for split in splits.split():
        theirs = list(read(tmp_path, split))  # First, because an LMDB can be opened only once.
        source = open_source(name, tmp_path, split)
        assert len(theirs) == len(source) > 0
        for i, (image, label) in enumerate(theirs):
            assert source.labels is None or source.labels[i] == label
            ours = source.read(i)
            if isinstance(ours, bytes):
                ours = np.asarray(Image.open(io.BytesIO(ours)).convert("RGB"))
            expected = np.asarray(image)
            assert np.array_equal(ours, expected if expected.ndim == 3 else expected[..., None])


@pytest.mark.parametrize(
    ("name", "peer"),
    [("cifar10", peers.CIFAR10), ("cifar100", peers.CIFAR100), ("stl10", peers.STL10)],
)
def test_published_md5_are_those_of_torchvision(name: str, peer: Any) -> None:
    expected = {peer.filename: peer.tgz_md5, **dict(peer.train_list + peer.test_list)}
    if name != "stl10":
        expected[peer.meta["filename"]] = peer.meta["md5"]
    assert FORMATS[name].md5 == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("svhn", {name: md5 for _, name, md5 in peers.SVHN.split_list.values()}),
        ("dtd", {Path(peers.DTD._URL).name: peers.DTD._MD5}),
        ("mnist", dict(peers.MNIST.resources)),
        ("fashion-mnist", dict(peers.FashionMNIST.resources)),
        ("kmnist", dict(peers.KMNIST.resources)),
        (
            "places365",
            dict(
                [
                    peers.Places365._IMAGES_META["val", True],
                    peers.Places365._IMAGES_META["test", True],
                    peers.Places365._DEVKIT_META["standard"],
                    peers.Places365._FILE_LIST_META["val"],
                    peers.Places365._CATEGORIES_META,
                ]
            ),
        ),
        ("imagenet", dict(peers.imagenet.ARCHIVE_META[split] for split in ("train", "val"))),
    ],
)
def test_published_md5_of_other_files(name: str, expected: dict[str, str]) -> None:
    assert FORMATS[name].md5 == expected


@pytest.mark.parametrize(
    ("split", "stem", "count"), [("train", "train", 6144), ("test", "t10k", 3000)]
)
def test_idx_of_the_sample_decoded_by_hand(split: str, stem: str, count: int) -> None:
    raw = gzip.decompress((SAMPLE / f"{stem}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((SAMPLE / f"{stem}-labels-idx1-ubyte.gz").read_bytes())[8:]
    assert locate("fashion-mnist", split, SAMPLE) is not None
    source = open_source("fashion-mnist", SAMPLE, split)
    assert len(source) == len(labels) == count
    assert source.labels is not None and source.labels.tolist() == list(labels)
    assert source.classes[9] == "ankle-boot"
    for i in (0, 1, count // 2, count - 1):
        assert source.read(i).tobytes() == raw[16 + 784 * i : 16 + 784 * (i + 1)]  # type: ignore


def test_cifar100_coarse(tmp_path: Path) -> None:
    for split, fine in cases.write_cifar100(tmp_path).items():
        source = open_source("cifar100-coarse", tmp_path, split)
        assert source.labels is not None and fine.labels is not None
        assert source.labels.tolist() == [label // 5 for label in fine.labels]
        assert source.classes == tuple(f"coarse-{i:02d}" for i in range(20))


@pytest.mark.parametrize("packed", [True, False], ids=["tar", "texts"])
@pytest.mark.parametrize("place", [".", "val_256"])
def test_places365_finds_its_labels_beside_or_in_the_folder(
    tmp_path: Path, packed: bool, place: str
) -> None:
    made = cases.write_places365(tmp_path, packed=False)
    lists = ["places365_val.txt", "categories_places365.txt"]
    files = {name: (tmp_path / name).read_bytes() for name in lists}
    for name in lists:
        (tmp_path / name).unlink()
    unlabelled = open_source("places365", tmp_path / "val_256", "val")
    assert (unlabelled.labels, unlabelled.classes) == (None, ())
    cases.put(tmp_path / place, "filelist_places365-standard.tar", files, packed)
    source = open_source("places365", tmp_path / "val_256", "val")
    check(source, made["val"])
    assert len(source.paths) == (2 if packed else 3)


def test_imagenet_val_in_folders_of_wnids_is_labelled(tmp_path: Path) -> None:
    made = cases.write_imagenet(tmp_path, packed=False)
    sorted_val = (tmp_path / "ILSVRC2012_img_train").rename(tmp_path / "sorted-val")
    check(open_source("imagenet", sorted_val, "val"), made["train"])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(5, 4, 3, 3), (5, 4, 3, 1), (5, 4, 3)])
def test_npy(tmp_path: Path, shape: tuple[int, ...], order: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.save(tmp_path / "x.npy", np.asarray(images, order=order))
    expected = list(images.reshape(5, 4, 3, -1))
    source = open_source("npy", tmp_path / "x.npy", "any")
    check(source, Split(expected, None, list("01234")))
    # With a mapped file, the process would be killed if the file is cut.
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


CLASS_FOLDERS = ["cat/1.png", "Bird/deep/2.png", "cat/3.png", "été/4.png"]


@pytest.mark.parametrize("archive", ["", "x.tar", "x.zip"])
@pytest.mark.parametrize("wrapper", ["", "wrapper/"])
def test_class_folders_as_torchvision_reads_them(
    tmp_path: Path, archive: str, wrapper: str
) -> None:
    rng = np.random.default_rng(0)
    files = {wrapper + name: cases.encoded(rng, "PNG") for name in CLASS_FOLDERS}
    folder = cases.put(tmp_path / "unpacked", "", files, packed=False) / wrapper
    src = cases.put(tmp_path, archive, files, packed=True) if archive else folder
    peer = peers.ImageFolder(folder)
    names = [str(Path(path).relative_to(folder)) for path, _ in peer.samples]
    images = [Path(path).read_bytes() for path, _ in peer.samples]
    check(open_source("class-folders", src, "x"), Split(images, peer.targets, names, peer.classes))
    check(open_source("folder", src, "x"), Split(images, None, names))


def test_class_folders_of_one_class_or_none(tmp_path: Path) -> None:
    image = cases.encoded(np.random.default_rng(0))
    one = cases.put(tmp_path, "one.tar", {"cat/1.jpg": image, "cat/2.jpg": image}, packed=True)
    source = open_source("class-folders", one, "x")
    assert (source.classes, source.labels.tolist()) == (("cat",), [0, 0])  # type: ignore
    folder = cases.put(tmp_path / "folder", "", {"cat/1.jpg": image}, packed=False)
    (folder / "ant").mkdir()
    (folder / ".git").mkdir()
    source = open_source("class-folders", folder, "x")
    assert (source.classes, source.labels.tolist()) == (("cat",), [0])  # type: ignore
    for files in ({"cat/1.jpg": image, "loose.jpg": image}, {"loose.jpg": image}):
        loose = cases.put(tmp_path, "loose.tar", files, packed=True)
        with pytest.raises(UserError, match="'loose.jpg' is not in a class folder"):
            open_source("class-folders", loose, "x")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("cifar", ".", "train"), "format is 'cifar', there are: .*cifar10"),
        (("cifar10", ".", "val"), "split is 'val', cifar10 has: train, test"),
        (("dtd", ".", "train11"), "split is 'train11', dtd has: all, train1"),
        (("stl10", "nowhere", "train"), "nowhere: no such file or folder"),
        (("folder", "nowhere", "x"), "nowhere: no such file or folder"),
        (("npy", "nowhere", "x"), "nowhere: no such file or folder"),
        (("npy", ".", "x"), "no such .npy file"),
        (("svhn", ".", "train"), "train_32x32.mat: no such file"),
        (("svhn", "test_32x32.mat", "train"), "is split 'test', expected 'train' .train_32x32.mat"),
        (("cifar10", ".", "train"), "0 files data_batch_1 in it, expected one"),
        (("stl10", ".", "train"), "0 files train_X.bin in it, expected one"),
        (("tiny-imagenet", "val_256", "val"), "no images of tiny-imagenet-200/val in it"),
        (("imagenet", "val_256", "train"), "is not in the folder of a wnid"),
        (("imagenet30", "val_256", "test"), "is in none of the 30 class folders"),
        (("lsun", "lsun.zip", "test"), "holds an LMDB, expected the folder"),
        (("idx", "val_256", "train"), "train-images-idx3-ubyte.gz: missing"),
        (("folder", "empty", "x"), "empty: no images"),
        (("lsun", "empty", "test"), "empty: no images"),
        (("webdataset", "empty", "x"), "empty: no tars in it"),
        (("webdataset", "nowhere.tar", "x"), "nowhere.tar: no such tar"),
    ],
)
def test_what_is_not_there(tmp_path: Path, call: tuple[str, str, str], message: str) -> None:
    cases.write_places365(tmp_path, packed=False)
    cases.put(tmp_path, "lsun.zip", {"test_lmdb/data.mdb": b""}, packed=True)
    (tmp_path / "test_32x32.mat").touch()
    (tmp_path / "empty").mkdir()
    name, src, split = call
    with pytest.raises(UserError, match=message) as caught:
        open_source(name, tmp_path / src, split)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_reading_is_safe_from_many_threads(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    cases.write_tiny_imagenet(tmp_path)
    cases.write_lsun(tmp_path)
    cases.write_dtd(tmp_path)
    for name, split in (("tiny-imagenet", "val"), ("lsun", "test"), ("dtd", "all")):
        source = open_source(name, tmp_path, split)
        places = np.random.default_rng(0).integers(0, len(source), 4000).tolist()
        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(source.read, places, chunksize=20))
        alone = [source.read(i) for i in range(len(source))]
        assert all(map(operator.eq, read, (alone[i] for i in places)))
