"""Official archives that were packed again are known by their contents, or refused."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.manifest import Manifest
from shards.manifest_file import read_manifest
from shards.sets import SetsRequest, build_sets
from shards.sources.idx import FASHION_CLASSES
from shards.sources.registry import FORMATS
from tests.support import source_cases as cases
from tests.support.shard_cases import contents as files_of

Files = dict[str, bytes]
"""Name in an archive -> content of the file."""
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def write_fashion(folder: Path) -> object:
    return cases.write_idx(folder / "fashion-mnist", classes=FASHION_CLASSES)


PACKED: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "fashion-mnist": (write_fashion, "test", "t10k-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte"),
    "cifar10": (cases.write_cifar10, "test", "cifar-10-python.tar.gz", "data_batch_3"),
    "cifar100": (cases.write_cifar100, "train", "cifar-100-python.tar.gz", "test"),
    "cifar100-coarse": (cases.write_cifar100, "test", "cifar-100-python.tar.gz", "train"),
    "stl10": (cases.write_stl10, "train", "stl10_binary.tar.gz", "unlabeled_X.bin"),
    "places365": (
        cases.write_places365,
        "val",
        "filelist_places365-standard.tar",
        "places365_val.txt",
    ),
}
"""Format -> function that writes it, a split, an archive to pack again, a file in that archive."""


def unpacked(path: Path) -> Files:
    if not tarfile.is_tarfile(path):
        return {path.stem: gzip.decompress(path.read_bytes())}
    with tarfile.open(path) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]


def pack(path: Path, files: Files) -> None:
    """Pack as another program would: in another order, with other times and compression."""
    if ".tar" not in path.suffixes:
        (data,) = files.values()
        path.write_bytes(gzip.compress(data, 1, mtime=7))
        return
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 7
            out.addfile(info, io.BytesIO(data))
    data = file.getvalue()
    path.write_bytes(gzip.compress(data, 1, mtime=7) if path.suffix == ".gz" else data)


def md5_of(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@pytest.fixture(params=PACKED)
def case(request, tmp_path: Path, monkeypatch) -> tuple[Path, Callable[..., Manifest]]:
    """Return a file of a small "published" data set, and a request that builds a set of it."""
    name = request.param
    write, split, file_name, _ = PACKED[name]
    write(tmp_path / "src")
    known = FORMATS[name]
    (path,) = (tmp_path / "src").rglob(file_name)
    md5, inside = {}, {}
    for file in (one for one in (tmp_path / "src").rglob("*") if one.name in known.md5):
        md5[file.name] = md5_of(file.read_bytes())
        if file.name in known.contents:
            in_it = {Path(one).name: data for one, data in unpacked(file).items()}
            inside[file.name] = {one: md5_of(in_it[one]) for one in known.contents[file.name]}
    published = dataclasses.replace(known, md5={**known.md5, **md5}, contents=inside)
    monkeypatch.setitem(FORMATS, name, published)

    def build_it(out: str, **fields: Any) -> Manifest:
        how = BuildRequest(name, tmp_path / "src", 8, tmp_path / out, split, count=False)
        return build(dataclasses.replace(how, **fields))

    return path, build_it


def test_what_is_packed_anew_is_known_by_its_contents(case, tmp_path: Path) -> None:
    path, build_it = case
    assert build_it("published", name="x").checks == ("md5",)
    pack(path, unpacked(path))
    manifest = build_it("anew", name="x")
    assert manifest.checks == ("md5 of contents",) == read_manifest(tmp_path / "anew").checks
    (source,) = (one for one in manifest.sources if one.file == path.name)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    here, there = (files_of(tmp_path / out) for out in ("published", "anew"))
    del here["manifest.json"], there["manifest.json"]
    assert here == there
    assert build_it("unchecked", md5=False).checks == ()


def test_a_file_in_it_that_differs_is_named(case, request, tmp_path: Path) -> None:
    path, build_it = case
    *_, name = PACKED[request.node.callspec.params["case"]]
    files = unpacked(path)
    (changed,) = (one for one in files if Path(one).name == name)
    # In a text, add a space that has no meaning; in other files, change one bit.
    data = files[changed]
    files[changed] = data.replace(b" ", b"  ", 1) if name.endswith(".txt") else flipped(data)
    pack(path, files)
    seen = md5_of(files[changed])
    words = (
        f"{path.name}: md5 of {name} in it is {seen}, published is {md5_of(data)}; it is damaged"
    )
    with pytest.raises(UserError, match=words):
        build_it("set")
    assert not (tmp_path / "set").exists()


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_an_archive_that_lacks_a_file_is_not_the_published_one(tmp_path: Path) -> None:
    cases.write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-python.tar.gz"
    files = unpacked(path)
    del files["cifar-10-batches-py/data_batch_1"]
    pack(path, files)
    with pytest.raises(UserError, match="cifar-10-python.tar.gz: 0 files data_batch_1 in it"):
        build(BuildRequest("cifar10", tmp_path, 8, tmp_path / "set", "test", count=False))


def test_what_has_no_published_contents_may_have_been_packed_anew(tmp_path: Path) -> None:
    cases.write_dtd(tmp_path / "src")
    how = BuildRequest("dtd", tmp_path / "src", 8, tmp_path / "set", "all", count=False)
    words = "dtd-r1.0.1.tar.gz: md5 is .* it is damaged, packed anew or another version .--no-md5"
    with pytest.raises(UserError, match=words):
        build(how)


def test_contents_are_files_with_published_sums_of_their_own() -> None:
    for name, known in FORMATS.items():
        for packed, inside in known.contents.items():
            assert packed in known.md5 and inside, name
            if not packed.endswith("ubyte.gz"):
                assert inside.items() <= known.md5.items() and packed not in inside, name
    packed = {packed for known in FORMATS.values() for packed in known.contents}
    assert packed >= {"cifar-10-python.tar.gz", "cifar-100-python.tar.gz", "stl10_binary.tar.gz"}


def test_a_set_of_files_that_were_packed_anew_is_kept(tmp_path: Path, monkeypatch) -> None:
    src = tmp_path / "fashion-mnist"
    cases.write_idx(src, classes=FASHION_CLASSES)
    inside = {path.name: {path.stem: md5_of(unpacked(path)[path.stem])} for path in src.iterdir()}
    published = dataclasses.replace(FORMATS["fashion-mnist"], contents=inside)
    monkeypatch.setitem(FORMATS, "fashion-mnist", published)
    only = ("bag-test", "coat-train")
    request = SetsRequest("fashion-one-class", tmp_path, tmp_path / "out", only, count=False)
    for state in ("built", "kept"):
        outcomes = build_sets(request)
        assert [outcome.state for outcome in outcomes] == [state] * 2, outcomes
        assert {outcome.manifest.checks for outcome in outcomes} == {("md5 of contents",)}
    with pytest.raises(UserError, match="exists with another checks"):
        build_sets(dataclasses.replace(request, md5=False))


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_as_debian_packs_it(tmp_path: Path) -> None:
    for split in ("train", "test"):
        how = BuildRequest("fashion-mnist", DEBIAN, 28, tmp_path / split, split)
        assert build(how).checks == ("md5 of contents", "count")
