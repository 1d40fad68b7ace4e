"""The "python version" of CIFAR-10 and CIFAR-100: the published archive, or its unpacked folder.

    cifar-10-python.tar.gz     cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}
    cifar-100-python.tar.gz    cifar-100-python/{train,test,meta}

Each file is a dictionary that Python 2 pickled. Its fields are:
- `data`, uint8 [N,3072]: each row is a red, a green and a blue plane of 32 x 32 px.
- `labels` in CIFAR-10; `fine_labels` and `coarse_labels` in CIFAR-100.
- `filenames`.

A pickle can run any code, so only plain values and arrays of bytes are unpickled.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.errors import UserError
from shards.sources.archives import open_files
from shards.sources.arrays import Images

SIDE_PX = 32


@dataclass(frozen=True)
class Kind:
    """The names of the files and fields to read for one data set and one kind of labels."""

    batches: Mapping[str, tuple[str, ...]]
    """The files of each split, in the order of the images: split -> file names."""
    meta: str
    """The name of the file that holds the class names."""
    labels: str
    """The name of the field that holds the labels."""
    label_names: str
    """The name of the field that holds the class names."""


_CIFAR100_BATCHES = {"train": ("train",), "test": ("test",)}
CIFAR10 = Kind(
    {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    "batches.meta",
    "labels",
    "label_names",
)
CIFAR100 = Kind(_CIFAR100_BATCHES, "meta", "fine_labels", "fine_label_names")
CIFAR100_COARSE = Kind(_CIFAR100_BATCHES, "meta", "coarse_labels", "coarse_label_names")


def open_cifar(path: Path, split: str, kind: Kind) -> Images:
    """Read the images of one split into memory.

    50,000 images take 154 MB. The names of the images are those in the field `filenames`.

    Args:
        path: The archive, or the folder to which it unpacks.
        split: "train" or "test".
        kind: The names of the data set's files and fields. They also select fine or coarse labels.

    Raises:
        UserError: A file is missing or damaged, or contains anything except plain values and arrays
            of bytes.
    """
    files = open_files(path)
    images, labels, names, paths = [], [], [], []
    for batch in (*kind.batches[split], kind.meta):
        index = files.find(batch)
        if files.path_of(index) not in paths:
            paths.append(files.path_of(index))
        label = f"{path}: {batch}"
        content = _unpickle(files.read(index), label)
        if batch == kind.meta:
            classes = _list(content, kind.label_names, str, label)
            continue
        pixels = content.get("data")
        if not isinstance(pixels, _Array) or pixels.values.shape[1:] != (3 * SIDE_PX**2,):
            raise UserError(f"{label}: data is not uint8 (N,{3 * SIDE_PX**2})")
        images.append(pixels.values.reshape(-1, 3, SIDE_PX, SIDE_PX))
        labels += _list(content, kind.labels, int, label)
        names += _list(content, "filenames", str, label)
    rows = np.concatenate(images).transpose(0, 2, 3, 1)  # [N,C,H,W] -> [N,H,W,C]
    return Images(paths, rows, labels, classes, names)


def _list(content: dict[str, Any], field: str, kind: type, label: str) -> list[Any]:
    values = content.get(field)
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise UserError(f"{label}: {field} is not a list of {kind.__name__}")
    return values


def _unpickle(data: bytes, label: str) -> dict[str, Any]:
    """Return the dictionary in a pickle. Its keys, and the bytes in its lists, become text."""
    try:
        content = _PlainUnpickler(io.BytesIO(data), label).load()
    except UserError:
        raise
    # A damaged pickle may raise an error of nearly any type.
    except Exception as error:
        raise UserError(f"{label}: not a pickle of CIFAR, or damaged: {error!r}") from error
    if not isinstance(content, dict):
        raise UserError(f"{label}: a pickled {type(content).__name__}, expected a dictionary")
    return {_text(key): _texts(value) for key, value in content.items()}


def _text(value: Any) -> Any:
    """Return bytes as text, and any other value unchanged.

    If Python 3 has written a pickle of CIFAR anew, texts may be stored in it as bytes.
    """
    return value.decode("latin1") if isinstance(value, bytes) else value


def _texts(value: Any) -> Any:
    return [_text(one) for one in value] if isinstance(value, list) else value


class _Array:
    """An array of bytes in a pickle.

    It replaces NumPy's own unpickling, which is unsafe because it trusts its input.
    """

    values = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _ByteType) or is_fortran:
            raise ValueError("an array that is not of bytes in C order")
        data = data.encode("latin1") if isinstance(data, str) else data
        self.values = np.frombuffer(data, np.uint8).reshape(shape)


class _ByteType:
    def __init__(self, name: str, *_: object) -> None:
        if _text(name) not in ("u1", "|u1"):
            raise ValueError(f"an array of {name}, expected u1")

    def __setstate__(self, state: object) -> None:
        pass


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Return text as bytes, as `codecs.encode` does.

    In old pickle protocols, Python 3 writes bytes as a call of `codecs.encode`.
    """
    return text.encode({"latin1": "latin1"}[encoding])


_ALLOWED = {
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.ndarray": _Array,
    "numpy.dtype": _ByteType,
    "_codecs.encode": _encode,
}


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, label: str) -> None:
        super().__init__(file, encoding="latin1")
        self._label = label

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[f"{module}.{name}"]
        except KeyError:
            raise UserError(
                f"{self._label}: its pickle asks for {module}.{name}, which is not allowed"
            ) from None
