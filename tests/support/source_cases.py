"""Small files in each official format, made from random images.

    write_cifar10(folder, seed=0, packed=True) -> {"train": Split, "test": Split}

All functions have this form. They write into `folder` the archive that is published, or with
packed=False its unpacked files, and return the content in the order of a source. `write_all` writes
a folder in which every format of the protocols is found.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image

from shards.sources.idx import FASHION_CLASSES
from shards.sources.imagenet30 import CLASSES as IMAGENET30_CLASSES

CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
STL10_CLASSES = "airplane bird car cat deer dog horse monkey ship truck".split()
# These are not in sorted order, like the official list. The list of Places is sorted.
TINY_WNIDS = ("n02124075", "n04067472", "n01443537", "n04540053")
DTD_CLASSES = ("banded", "blotchy", "zigzagged")
PLACES = ("/z/zen_garden", "/a/airfield", "/a/apartment_building/outdoor", "/b/beach")
IMAGENET30 = {  # Label: class and wnid.
    0: ("acorn", "n12267677"),
    3: ("american_alligator", "n01698640"),
    29: ("volcano", "n09472597"),
}
IMAGENET_WNIDS = ("n01440764", "n01443537", "n15075141")


@dataclass
class Split:
    """The content of one split of a written data set."""

    images: list[Any] = field(default_factory=list)
    """Pixels, uint8 [H,W,C], or encoded files."""
    labels: list[int] | None = None
    names: list[str] = field(default_factory=list)
    """Paths below the only folder of an archive, or the numbers of rows."""
    classes: Sequence[str] = ()


def pixels(rng: np.random.Generator, count: int, height: int, width: int, channels: int = 3) -> Any:
    """Return uint8 [count,height,width,channels]: random pieces of 4 px on asymmetric slopes."""
    coarse = rng.integers(0, 160, (count, -(-height // 4), -(-width // 4), channels), np.uint8)
    fine = coarse.repeat(4, 1).repeat(4, 2)[:, :height, :width]
    slope = np.arange(height)[:, None] * 40 // height + np.arange(width) * 50 // width
    return (fine + slope[None, :, :, None]).astype(np.uint8)


def encoded(
    rng: np.random.Generator, kind: str = "JPEG", size: tuple[int, int] | None = None
) -> bytes:
    """Return an image file of `size` (height, width), by default of a random size."""
    height, width = size or (int(rng.integers(20, 30)), int(rng.integers(31, 50)))
    file = io.BytesIO()
    Image.fromarray(pixels(rng, 1, height, width)[0]).save(file, kind)
    return file.getvalue()


def put(folder: Path, archive: str, files: Mapping[str, bytes], packed: bool) -> Path:
    """Write path -> content to an archive, or unpacked; return the archive or `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / archive
    if not packed:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder
    # The order is reversed, because an archive need not be sorted.
    entries = list(files.items())[::-1]
    if archive.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for name, data in entries:
                out.writestr(name, data)
    else:
        path.write_bytes(tar_bytes(entries))
        if archive.endswith(".gz"):
            path.write_bytes(gzip.compress(path.read_bytes(), 1))
    return path


def tar_bytes(entries: Sequence[tuple[str | tarfile.TarInfo, bytes]]) -> bytes:
    """Return a tar of these members, in this order."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as out:
        for name, data in entries:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return file.getvalue()


def python2_pickle(value: object) -> bytes:
    """Pickle like Python 2 in the CIFAR files: protocol 2, text and pixels as byte strings."""
    return b"\x80\x02" + _pickled(value) + b"."


def _pickled(value: object) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_pickled(k) + _pickled(v) for k, v in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_pickled, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_pickled, value)) + b"t"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, str | bytes):
        data = value.encode("latin1") if isinstance(value, str) else value
        return b"T" + struct.pack("<i", len(data)) + data
    assert isinstance(value, np.ndarray) and value.dtype == np.uint8
    nothing = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    minus_1 = b"J\xff\xff\xff\xff"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + 2 * minus_1 + b"K\x00tb"
    state = b"(K\x01" + _pickled(value.shape) + dtype + b"\x89" + _pickled(value.tobytes()) + b"t"
    return nothing + state + b"b"


def write_cifar10(folder: Path, seed: int = 0, packed: bool = True) -> dict[str, Split]:
    rng = np.random.default_rng(seed)
    meta = {"num_cases_per_batch": 10_000, "label_names": CIFAR10_CLASSES, "num_vis": 3072}
    files = {"cifar-10-batches-py/batches.meta": python2_pickle(meta)}
    splits = {}
    for split, count in (("train", 20), ("test", 10)):
        names = [f"{CIFAR10_CLASSES[i % 10]}_s_{i:06d}.png" for i in range(count)]
        images = list(pixels(rng, count, 32, 32))
        labels = rng.integers(0, 10, count).tolist()
        made = Split(images, labels, names, CIFAR10_CLASSES)
        batches = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
        for batch, rows in zip(
            batches, np.array_split(np.arange(count), len(batches)), strict=True
        ):
            content = {"batch_label": batch, **_cifar_rows(made, rows.tolist())}
            content["labels"] = [labels[i] for i in rows]
            files[f"cifar-10-batches-py/{batch}"] = python2_pickle(content)
        splits[split] = made
    put(folder, "cifar-10-python.tar.gz", files, packed)
    return splits


def write_cifar100(folder: Path, seed: int = 0, packed: bool = True) -> dict[str, Split]:
    """Write CIFAR-100, where a coarse label is the fine label // 5."""
    rng = np.random.default_rng(seed)
    fine = [f"fine-{i:02d}" for i in range(100)]
    meta = {"fine_label_names": fine, "coarse_label_names": [f"coarse-{i:02d}" for i in range(20)]}
    files = {"cifar-100-python/meta": python2_pickle(meta)}
    splits = {}
    for split, count in (("train", 20), ("test", 10)):
        images = list(pixels(rng, count, 32, 32))
        labels = rng.integers(0, 100, count).tolist()
        made = Split(images, labels, [f"thing_s_{i:06d}.png" for i in range(count)], fine)
        content = _cifar_rows(made, range(count))
        content |= {"fine_labels": labels, "coarse_labels": [label // 5 for label in labels]}
        files[f"cifar-100-python/{split}"] = python2_pickle(content)
        splits[split] = made
    put(folder, "cifar-100-python.tar.gz", files, packed)
    return splits


def _cifar_rows(made: Split, rows: Sequence[int]) -> dict[str, Any]:
    planes = [made.images[i].transpose(2, 0, 1).reshape(-1) for i in rows]
    data = np.array(planes, np.uint8).reshape(len(rows), 3072)
    return {"data": data, "filenames": [made.names[i] for i in rows]}


def write_svhn(
    folder: Path, seed: int = 0, packed: bool = True, height_px: int = 32
) -> dict[str, Split]:
    """Write SVHN; images of the official files have 32 x 32 px."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, count in (("train", 20), ("test", 10), ("extra", 12)):
        images = pixels(rng, count, height_px, 32)
        labels = np.arange(count) % 10
        y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        content = {"X": np.moveaxis(images, 0, 3), "y": y}
        scipy.io.savemat(folder / f"{split}_32x32.mat", content, do_compression=True)
        names = [str(i) for i in range(count)]
        splits[split] = Split(list(images), labels.tolist(), names, tuple("0123456789"))
    return splits


def write_stl10(folder: Path, seed: int = 0, packed: bool = True) -> dict[str, Split]:
    rng = np.random.default_rng(seed)
    files = {"stl10_binary/class_names.txt": "\n".join(STL10_CLASSES).encode()}
    splits = {}
    for split, count in (("train", 4), ("test", 11), ("unlabeled", 3)):
        images = pixels(rng, count, 96, 96)
        made = Split(list(images), None, [str(i) for i in range(count)])
        files[f"stl10_binary/{split}_X.bin"] = images.transpose(0, 3, 2, 1).tobytes()
        if split != "unlabeled":
            made.labels, made.classes = (np.arange(count) % 10).tolist(), STL10_CLASSES
            files[f"stl10_binary/{split}_y.bin"] = bytes(label + 1 for label in made.labels)
        splits[split] = made
    put(folder, "stl10_binary.tar.gz", files, packed)
    return splits


def write_tiny_imagenet(folder: Path, seed: int = 0, packed: bool = True) -> dict[str, Split]:
    rng = np.random.default_rng(seed)
    root = "tiny-imagenet-200"
    classes = sorted(TINY_WNIDS)
    files = {f"{root}/wnids.txt": "".join(f"{wnid}\n" for wnid in TINY_WNIDS).encode()}
    labels, lines = {}, []
    for split, count in (("train", 8), ("val", 12), ("test", 11)):
        for k in range(count):
            wnid = TINY_WNIDS[int(rng.integers(4)) if split == "val" else k % 4]
            name = f"val_{k}.JPEG" if split == "val" else f"{wnid}_{k}.JPEG"
            path = {
                "train": f"train/{wnid}/images/{name}",
                "val": f"val/images/{name}",
                "test": f"test/images/test_{k}.JPEG",
            }[split]
            files[f"{root}/{path}"] = encoded(rng, size=(64, 64))
            labels[f"{root}/{path}"] = classes.index(wnid)
            lines += [f"{name}\t{wnid}\t0\t32\t44\t62\n"] if split == "val" else []
    files[f"{root}/train/{TINY_WNIDS[0]}/{TINY_WNIDS[0]}_boxes.txt"] = b"x\t0\t0\t1\t1\n"
    files[f"{root}/val/val_annotations.txt"] = "".join(lines[::-1]).encode()
    put(folder, f"{root}.zip", files, packed)
    splits = {s: _listed(files, f"{root}/{s}/", labels, classes) for s in ("train", "val")}
    return {**splits, "test": _listed(files, f"{root}/test/")}


def _listed(
    files: Mapping[str, bytes],
    prefix: str = "",
    labels: Mapping[str, int] | None = None,
    classes: Sequence[str] = (),
) -> Split:
    """Return the images among files in the order of a source: by the bytes of their paths."""
    ends = (".jpg", ".jpeg", ".png", ".webp")
    names = [n for n in files if n.startswith(prefix) and n.lower().endswith(ends)]
    names.sort(key=os.fsencode)
    found = None if labels is None else [labels[name] for name in names]
    wrapped = len({name.split("/")[0] for name in files}) == 1
    shown = [name.partition("/")[2] if wrapped else name for name in names]
    return Split([files[name] for name in names], found, shown, classes)


def write_lsun(folder: Path, seed: int = 0, packed: bool = True) -> dict[str, Split]:
    """Write LSUN as an LMDB, which is never packed, of JPEG and WebP images in turn."""
    import lmdb

    rng = np.random.default_rng(seed)
    files = {}
    for i in range(10):
        files[rng.bytes(20).hex()] = encoded(rng, ("JPEG", "WEBP")[i % 2], (40, 56 + i))
    folder.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder / "test_lmdb"), map_size=1 << 24) as environment:
        with environment.begin(write=True) as transaction:
            for key, data in files.items():
                transaction.put(key.encode(), data)
    names = sorted(files)
    return {"test": Split([files[name] for name in names], None, names)}


def write_images(
    folder: Path, name: str, seed: int = 0, packed: bool = True, kind: str = "PNG"
) -> dict[str, Split]:
    """Write LSUN_resize, Imagenet_resize, LSUN_fix or Imagenet_fix: 32 x 32 px, no labels."""
    rng = np.random.default_rng(seed)
    suffix = kind.lower()
    paths = [f"{name}/{('a', 'b/c')[i % 2]}/{i}.{suffix}" for i in range(10)]
    files = {path: encoded(rng, kind, (32, 32)) for path in paths}
    put(folder, f"{name}.tar.gz", files, packed)
    return {"test": _listed(files)}


def write_places365(
    folder: Path, seed: int = 0, packed: bool = True, lists: bool = True
) -> dict[str, Split]:
    """Write Places365, with `lists` also the lists of labels, in their tar or unpacked."""
    rng = np.random.default_rng(seed)
    splits, lines = {}, []
    for split, count in (("val", 10), ("test", 3)):
        files, labels = {}, {}
        for i in range(1, count + 1):
            name = f"Places365_{split}_{i:08d}.jpg"
            files[f"{split}_256/{name}"] = encoded(rng)
            labels[f"{split}_256/{name}"] = label = int(rng.integers(len(PLACES)))
            lines += [f"{name} {label}\n"] if split == "val" else []
        put(folder, f"{split}_256.tar", files, packed)
        labelled = lists and split == "val"
        splits[split] = _listed(files, "", labels, PLACES) if labelled else _listed(files)
    categories = [f"{name} {i}\n" for i, name in enumerate(PLACES)][::-1]
    texts = {"places365_val.txt": lines[::-1], "categories_places365.txt": categories}
    if lists:
        data = {name: "".join(content).encode() for name, content in texts.items()}
        put(folder, "filelist_places365-standard.tar", data, packed)
    return splits


def write_dtd(folder: Path, seed: int = 0, packed: bool = True) -> dict[str, Split]:
    """Write DTD: the first image of each class is in train1, then one in val1, one in test1."""
    rng = np.random.default_rng(seed)
    files, labels = {}, {}
    lists: dict[str, list[str]] = {"train1": [], "val1": [], "test1": []}
    for label, name in enumerate(DTD_CLASSES):
        for i in range(3):
            path = f"{name}/{name}_{i:04d}.jpg"
            files[f"dtd/images/{path}"] = encoded(rng)
            labels[f"dtd/images/{path}"] = label
            lists[("train1", "val1", "test1")[i]].append(path)
    for split, paths in lists.items():
        files[f"dtd/labels/{split}.txt"] = "".join(f"{path}\n" for path in paths).encode()
    put(folder, "dtd-r1.0.1.tar.gz", files, packed)
    splits = {"all": _listed(files, "dtd/images/", labels, DTD_CLASSES)}
    for split, paths in lists.items():
        chosen = {f"dtd/images/{path}": files[f"dtd/images/{path}"] for path in paths}
        splits[split] = _listed(chosen, "", labels, DTD_CLASSES)
    return splits


def write_imagenet30(folder: Path, seed: int = 0, packed: bool = True) -> dict[str, Split]:
    rng = np.random.default_rng(seed)
    splits = {}
    for split, count in (("train", 6), ("test", 9)):
        files, labels = {}, {}
        for i in range(count):
            label = list(IMAGENET30)[i % 3]
            name, wnid = IMAGENET30[label]
            base = f"{name}/{wnid}_{i}.JPEG" if split == "train" else f"{name}/{wnid}/{i}.JPEG"
            files[f"one_class_{split}/{base}"] = encoded(rng)
            labels[f"one_class_{split}/{base}"] = label
        put(folder, f"one_class_{split}.tar", files, packed)
        splits[split] = _listed(files, "", labels, IMAGENET30_CLASSES)
    return splits


def write_imagenet(folder: Path, seed: int = 0, packed: bool = True) -> dict[str, Split]:
    """Write ImageNet; unpacked, train has a folder for each wnid in a folder named like its tar."""
    rng = np.random.default_rng(seed)
    files, labels = {}, {}
    for i in range(9):
        wnid = IMAGENET_WNIDS[i % 3]
        files[f"{wnid}/{wnid}_{i}.JPEG"] = encoded(rng)
        labels[f"{wnid}/{wnid}_{i}.JPEG"] = i % 3
    flat = {f"ILSVRC2012_val_{i:08d}.JPEG": encoded(rng) for i in range(1, 5)}
    folders = [folder if packed else folder / f"ILSVRC2012_img_{s}" for s in ("train", "val")]
    inner = {
        f"{wnid}.tar": tar_bytes([(n.split("/")[1], d) for n, d in files.items() if wnid in n])
        for wnid in IMAGENET_WNIDS
    }
    put(folders[0], "ILSVRC2012_img_train.tar", inner if packed else files, packed)
    put(folders[1], "ILSVRC2012_img_val.tar", flat, packed)
    return {"train": _listed(files, "", labels, IMAGENET_WNIDS), "val": _listed(flat)}


def write_tiny_images(folder: Path, seed: int = 0, packed: bool = True) -> dict[str, Split]:
    """Write 300K_random_images.npy."""
    images = pixels(np.random.default_rng(seed), 20, 32, 32)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "300K_random_images.npy", images)
    return {"train": Split(list(images), None, [str(i) for i in range(20)])}


def write_idx(
    folder: Path,
    train: int = 20,
    seed: int = 0,
    packed: bool = True,
    size: tuple[int, int] = (28, 28),
    classes: Sequence[str] = tuple("0123456789"),
) -> dict[str, Split]:
    """Write the four files of MNIST or a similar set, gzipped or unpacked."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, stem, count in (("train", "train", train), ("test", "t10k", 10)):
        images = pixels(rng, count, *size, 1)
        labels = (np.arange(count) * 7 % 10).tolist()
        files = {
            f"{stem}-images-idx3-ubyte": struct.pack(">IIII", 0x803, *images.shape[:3])
            + images.tobytes(),
            f"{stem}-labels-idx1-ubyte": struct.pack(">II", 0x801, count) + bytes(labels),
        }
        for name, data in files.items():
            path = folder / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(data) if packed else data)
        names = [str(i) for i in range(count)]
        splits[split] = Split(list(images), labels, names, classes)
    return splits


def write_webdataset(folder: Path, seed: int = 0, packed: bool = True) -> dict[str, Split]:
    """Write labelled tars shard-000.tar ... by the webdataset package."""
    import webdataset

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made = Split([], [], [], tuple("0123"))
    for first in range(0, 7, 3):
        name = f"shard-{first // 3:03d}.tar"
        with webdataset.TarWriter(str(folder / name)) as out:
            for i in range(first, min(first + 3, 7)):
                data, label, key = encoded(rng), i % 4, f"sub.dir/{7 - i:03d}"
                out.write({"__key__": key, "cls": label, "jpg": data, "txt": "a caption"})
                made.images.append(data)
                made.labels.append(label)  # type: ignore[union-attr]
                made.names.append(f"{name}/{key}")
    return {"train": made}


def write_all(src: Path, seed: int = 0) -> dict[str, dict[str, Split]]:
    """Write a folder that has each format of the protocols; return format -> split -> content."""
    images = {
        "lsun-resize": "LSUN_resize",
        "imagenet-resize": "Imagenet_resize",
        "lsun-fix": "LSUN_fix",
        "imagenet-fix": "Imagenet_fix",
    }
    cifar100 = write_cifar100(src, seed=seed)
    return {
        "cifar10": write_cifar10(src, seed=seed),
        "cifar100": cifar100,
        "svhn": write_svhn(src / "svhn", seed=seed),
        "stl10": write_stl10(src, seed=seed),
        "tiny-imagenet": write_tiny_imagenet(src / "tiny", seed=seed),
        "lsun": write_lsun(src / "lsun", seed=seed),
        **{
            name: write_images(src / "odin" / "more", stem, seed=seed + i, packed=i % 2 == 0)
            for i, (name, stem) in enumerate(images.items())
        },
        "places365": write_places365(src / "places365", seed=seed),
        "dtd": write_dtd(src, seed=seed),
        "imagenet30": write_imagenet30(src / "imagenet30", seed=seed, packed=False),
        "imagenet": write_imagenet(src / "imagenet", seed=seed),
        "tiny-images-300k": write_tiny_images(src, seed=seed),
        "fashion-mnist": write_idx(src / "fashion-mnist", seed=seed, classes=FASHION_CLASSES),
    }
