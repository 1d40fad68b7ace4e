"""Files in folders, tars, zips and LMDBs, also damaged and hostile ones."""

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from shards.errors import UserError
from shards.sources.archives import open_files
from shards.sources.registry import open_source
from tests.support import source_cases as cases

CONTENTS = {"b.jpg": b"1", "a/c.jpg": b"", "a/b/d.png": b"33" * 700, "a.txt": b"4", "é.JPG": b"5"}
ORDER = sorted(CONTENTS, key=os.fsencode)


def zip_bytes(entries: list[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in entries:
            out.writestr(name, data)
    return file.getvalue()


KINDS: dict[str, Callable[[list[Any]], bytes]] = {
    "tar": cases.tar_bytes,
    "gz": lambda entries: gzip.compress(cases.tar_bytes(entries)),
    "bz2": lambda entries: bz2.compress(cases.tar_bytes(entries)),
    "xz": lambda entries: lzma.compress(cases.tar_bytes(entries)),
    "zip": zip_bytes,
}


@pytest.mark.parametrize("kind", [*KINDS, "folder"])
def test_names_contents_and_order(tmp_path: Path, kind: str) -> None:
    # The kind of an archive is recognised by its first bytes, not by its name.
    path = tmp_path / "archive"
    if kind == "folder":
        cases.put(path, "", CONTENTS, packed=False)
    else:
        path.write_bytes(KINDS[kind](list(CONTENTS.items())))
    files = open_files(path)
    assert files.names == ORDER
    for i, name in enumerate(ORDER):
        place = files.place(i)
        found = os.pread(place.file.fileno(), place.size, place.offset)
        assert files.read(i) == CONTENTS[name] == found
        assert files.path_of(i) == (path / name if kind == "folder" else path)
    assert [ORDER[i] for i in files.images()] == [name for name in ORDER if name != "a.txt"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_cut_archives_are_named(tmp_path: Path, kind: str, share: float) -> None:
    rng = np.random.default_rng(0)
    data = KINDS[kind]([(f"{i}.jpg", rng.bytes(3000)) for i in range(9)])
    path = tmp_path / "cut.archive"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r"cut\.archive: ") as caught:
        open_files(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["header", "member", "boundary", "padding"])
def test_a_tar_that_ends_anywhere_but_at_its_end(tmp_path: Path, where: str) -> None:
    """`tarfile` itself reads all of these except one as complete, shorter tars."""
    data = bytearray(cases.tar_bytes([("1.jpg", b"x" * 600), ("2.jpg", b"y" * 600)]))
    second = 512 + 1024
    if where == "header":
        data[second : second + 512] = b"z" * 512
    path = tmp_path / "x.tar"
    ends = {"member": second + 700, "boundary": second, "padding": second + 512 + 600}
    path.write_bytes(data[: ends.get(where)])
    with pytest.raises(UserError, match=r"x\.tar: .*(cut short|damaged)"):
        open_files(path)


def test_a_file_that_is_cut_later(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(cases.tar_bytes([("1.jpg", b"x" * 600)]))
    files = open_files(path)
    os.truncate(path, 700)
    with pytest.raises(UserError, match=r"x\.tar: 188 bytes at byte 512, expected 600"):
        files.read(0)


def special(name: str | bytes, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(os.fsdecode(name))
    info.type, info.linkname = kind, link
    return info


def test_hostile_tar(tmp_path: Path) -> None:
    entries = [
        (special("../../up.jpg"), b"up"),
        (special("/abs.jpg"), b"absolute"),
        (special("link.jpg", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (special("hard.jpg", tarfile.LNKTYPE, "/etc/passwd"), b""),
        (special("fifo.jpg", tarfile.FIFOTYPE), b""),
        (special("device.jpg", tarfile.CHRTYPE), b""),
        (special("folder.jpg", tarfile.DIRTYPE), b""),
        (special("same.jpg"), b"first"),
        (special("same.jpg"), b"second"),
        (special("./a//./b.jpg"), b"dots"),
        (special("._same.jpg"), b"of macOS"),
        (special(".hidden/x.jpg"), b"hidden"),
        (special(b"\xff\xfe.jpg"), b"no utf-8"),
        (special("\U0001f600.jpg"), b"after that as text, before it as bytes"),
        (special("long/" * 40 + "x.jpg"), b"long"),
    ]
    path = tmp_path / "x.tar"
    path.write_bytes(cases.tar_bytes(entries))
    files = open_files(path)
    assert [(os.fsencode(name), files.read(i)) for i, name in enumerate(files.names)] == [
        (b"../../up.jpg", b"up"),
        (b"a/b.jpg", b"dots"),
        (b"abs.jpg", b"absolute"),
        (b"long/" * 40 + b"x.jpg", b"long"),
        (b"same.jpg", b"second"),
        ("\U0001f600.jpg".encode(), b"after that as text, before it as bytes"),
        (b"\xff\xfe.jpg", b"no utf-8"),
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.tar"]
    assert len(open_source("folder", path, "x")) == 7
    assert files.passed_over == {
        "hidden": 2,
        "link (not followed)": 2,
        "overwritten by a later entry of its name": 1,
        "pipe, socket or device": 2,
    }


def signed_header(name: bytes, kind: bytes, size: int) -> bytes:
    """Return the header of a tar member with any size, also a negative one."""
    header = bytearray(special(name).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size.to_bytes(12, "big", signed=True)
    header[124] |= 0x80
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, b"?", tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [-512, -1, 1 << 40, 1 << 70])
def test_impossible_sizes_in_a_tar(tmp_path: Path, kind: bytes, size: int) -> None:
    path = tmp_path / "x.tar"
    good = cases.tar_bytes([("1.jpg", b"x")])[:1024]
    path.write_bytes(good + signed_header(b"2.jpg", kind, size) + bytes(4096))
    with pytest.raises(UserError, match=r"x\.tar: "):
        open_files(path)


def test_sparse_members_are_refused(tmp_path: Path) -> None:
    header = bytearray(special("x.jpg").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "x.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(UserError, match=r"x\.tar: 'x\.jpg' is a sparse file"):
        open_files(tmp_path / "x.tar")


def test_a_tar_of_tars(tmp_path: Path) -> None:
    inner = {
        f"n{i}": [(f"n{i}_{k}.JPEG", f"{i} {k}".encode() * 300) for k in range(4)][::-1]
        for i in range(5)
    }
    path = tmp_path / "outer.tar"
    outer = [(f"{name}.tar", cases.tar_bytes(entries)) for name, entries in inner.items()][::-1]
    path.write_bytes(cases.tar_bytes([*outer, ("notes.txt", b"x")]))
    with tarfile.open(path) as tar:  # The expected result is that of unpacking the tars.
        expected = {"notes.txt": b"x"}
        for member in tar.getmembers()[:-1]:
            with tarfile.open(fileobj=tar.extractfile(member)) as one:
                for m in one.getmembers():
                    data = one.extractfile(m).read()  # type: ignore[union-attr]
                    expected[f"{member.name.removesuffix('.tar')}/{m.name}"] = data
    files = open_files(path)
    assert len(expected) == 21
    assert files.names == sorted(expected)
    assert [files.read(i) for i in range(21)] == [expected[name] for name in files.names]


@pytest.mark.parametrize("cut", [600, 1024, 2000])
def test_a_tar_of_tars_with_a_damaged_one(tmp_path: Path, cut: int) -> None:
    inner = cases.tar_bytes([("1.JPEG", b"x" * 400), ("2.JPEG", b"y" * 600)])[:cut]
    outer = cases.tar_bytes([("n1.tar", inner), ("n2.tar", cases.tar_bytes([]))])
    (tmp_path / "outer.tar").write_bytes(outer)
    with pytest.raises(UserError, match=r"outer\.tar: n1\.tar: "):
        open_files(tmp_path / "outer.tar")


def test_no_room_to_decompress(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(cases.tar_bytes([("1.jpg", b"x")])[:2048]))
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "w+b", buffering=0))
    with pytest.raises(UserError, match=r"x\.tar\.gz: no room .* set TMPDIR"):
        open_files(path)
    monkeypatch.undo()
    before = os.listdir(tempfile.gettempdir())
    assert open_files(path).read(0) == b"x"
    assert os.listdir(tempfile.gettempdir()) == before


def test_no_room_for_a_member_of_a_zip(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zip_bytes([("1.jpg", b"x")]))
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "w+b", buffering=0))
    with pytest.raises(UserError, match=r"x\.zip: no room .* set TMPDIR"):
        open_files(path).place(0)


def test_no_room_is_told_of_a_full_quota_too() -> None:
    from shards.sources.files import no_room

    assert no_room("x", OSError(errno.EDQUOT, "quota")) is not None
    assert no_room("x", OSError(errno.EIO, "broken")) is None


def test_hostile_zip(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = 0o120777 << 16
    unmarked_folder = zipfile.ZipInfo("unmarked.jpg/")
    regular = zipfile.ZipInfo("regular.jpg")
    regular.external_attr = 0o100644 << 16
    path = tmp_path / "x.zip"
    with pytest.warns(UserWarning, match="Duplicate"):
        path.write_bytes(
            zip_bytes(
                [
                    ("../up.jpg", b"up"),
                    (link, b"/etc/passwd"),
                    (regular, b"regular"),
                    ("folder.jpg/", b""),
                    (unmarked_folder, b""),
                    ("__MACOSX/._a.jpg", b"of macOS"),
                    ("same.jpg", b"first"),
                    ("same.jpg", b"second"),
                ]
            )
        )
    files = open_files(path)
    assert [(name, files.read(i)) for i, name in enumerate(files.names)] == [
        ("../up.jpg", b"up"),
        ("regular.jpg", b"regular"),
        ("same.jpg", b"second"),
    ]
    assert files.passed_over == {
        "hidden": 1,
        "link (not followed)": 1,
        "overwritten by a later entry of its name": 1,
    }


def test_encrypted_and_damaged_zips(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    data = bytearray(zip_bytes([("1.jpg", b"content" * 100)]))
    directory = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[directory + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"x\.zip: '1\.jpg' is encrypted"):
        open_files(path)
    data[6] ^= 1
    data[directory + 8] ^= 1
    for place in (35, 40):  # The first compressed byte, and one that only the CRC protects.
        data[place] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"x\.zip: '1\.jpg' is damaged"):
            open_files(path).read(0)
        data[place] ^= 0xFF


def test_folder_leaves_out_what_is_not_a_plain_file(tmp_path: Path, monkeypatch) -> None:
    outside = tmp_path / "outside"
    shown = ["B/z.png", "a/sub/x.PNG", "a/y.tif", "a/é.bmp", "a.png", "a b.webp", "\U0001f600.jpg"]
    cases.put(outside, "", {"secret.png": b"secret"}, packed=False)
    folder = tmp_path / "folder"
    hidden = [".hidden/h.png", "a/.h.png"]
    cases.put(folder, "", {name: b"x" for name in [*shown, *hidden]}, packed=False)
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    (folder / "link.png").symlink_to(outside / "secret.png")
    (folder / "linked").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    expected = sorted([*shown, os.fsdecode(b"\xff.png")], key=os.fsencode)
    assert open_files(folder).names == expected
    listed = os.scandir

    class Backwards:
        def __init__(self, path: Any) -> None:
            self.entries = list(listed(path))[::-1]

        def __enter__(self) -> Any:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    assert open_files(folder).names == expected


def test_links_are_counted(tmp_path: Path, capsys) -> None:
    cases.put(tmp_path / "real" / "cat", "", {"1.png": b"x"}, packed=False)
    folder = tmp_path / "new\nline"
    (folder / "a").mkdir(parents=True)
    (folder / "cat").symlink_to(tmp_path / "real" / "cat")
    (folder / "a" / "1.png").symlink_to(tmp_path / "real" / "cat" / "1.png")
    (folder / "a" / "gone.png").symlink_to("nowhere")
    (folder / ".hidden.png").symlink_to("nowhere")
    what = "hidden: 1, link (not followed): 3"
    for name in ("folder", "class-folders"):
        with pytest.raises(UserError, match=re.escape(f"in it or below; passed over: {what}")):
            open_source(name, folder, "x")
    (folder / "2.png").write_bytes(b"x")
    with pytest.raises(UserError, match=re.escape(f"class folder; passed over: {what}")):
        open_source("class-folders", folder, "x")
    assert capsys.readouterr().err == ""
    assert len(open_source("folder", folder, "x")) == 1
    told = capsys.readouterr().err
    assert told == f"note: {tmp_path}/new\\nline: 4 entries are passed over ({what})\n"
    assert len(open_source("folder", tmp_path / "real", "x")) == 1
    assert "real" not in capsys.readouterr().err


def test_what_is_no_archive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(UserError, match=r"pipe\.tar: no such file or folder"):
        open_files(tmp_path / "pipe.tar")
    for data in (b"", b"<html>", bytes(100), b"x" * 5000, gzip.compress(b"no tar"), b"PK\x03\x04"):
        (tmp_path / "x.tar").write_bytes(data)
        with pytest.raises(UserError, match=r"x\.tar: not a (tar|zip)"):
            open_files(tmp_path / "x.tar")


def write_lmdb(folder: Path, count: int) -> dict[bytes, bytes]:
    rng = np.random.default_rng(0)
    values = {rng.bytes(6): rng.bytes(9000) for _ in range(count)}
    with lmdb.open(str(folder), map_size=1 << 24) as environment:
        with environment.begin(write=True) as transaction:
            for key, value in values.items():
                transaction.put(key, value)
    return values


def test_lmdb_keys_are_bytes_and_may_be_opened_twice(tmp_path: Path) -> None:
    values = write_lmdb(tmp_path / "db", 30)
    once, again = open_files(tmp_path / "db"), open_files(tmp_path / "db")
    for files in (once, again):
        assert list(map(os.fsencode, files.names)) == sorted(values)
        assert [files.read(i) for i in range(30)] == [values[key] for key in sorted(values)]
    assert once.path == tmp_path / "db" / "data.mdb"


@pytest.mark.parametrize("size", [0, 100, 4096, 8192, 100_000])
def test_cut_lmdb(tmp_path: Path, size: int) -> None:
    write_lmdb(tmp_path / "db", 30)
    os.truncate(tmp_path / "db" / "data.mdb", size)
    with pytest.raises(UserError, match=r"data\.mdb: (cut short|not an LMDB)"):
        open_files(tmp_path / "db")


def test_damaged_lmdb_is_named(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "db", 300)
    path = tmp_path / "db" / "data.mdb"
    data = bytearray(path.read_bytes())
    # The only branch page gets an invalid kind. (An invalid leaf page would end the process: LMDB
    # has only an assertion against it.)
    (branch,) = (
        page for page in range(0, len(data), 4096) if data[page + 10 : page + 12] == b"\1\0"
    )
    data[branch + 10] = 0
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"data\.mdb: damaged: ") as caught:
        open_files(path.parent)
    assert "\n" not in str(caught.value)


def test_lmdb_that_breaks_after_listing(tmp_path: Path, monkeypatch) -> None:
    write_lmdb(tmp_path / "db", 3)
    files = open_files(tmp_path / "db")
    files._keys = [b"other"] * 2 + [b""]  # type: ignore[attr-defined]
    for i in (0, 2):  # get() finds nothing for the first key, and raises for the empty one.
        with pytest.raises(UserError, match=r"data\.mdb: damaged"):
            files.read(i)


def test_lmdb_without_its_package(tmp_path: Path, monkeypatch) -> None:
    write_lmdb(tmp_path / "db", 3)
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    with pytest.raises(UserError, match="needs a package, pip install 'lmdb>=1.4'"):
        open_files(tmp_path / "db")
