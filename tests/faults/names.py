"""S5: file names that break other tools, in folders, tars and zips.

Each image's pixels are its number, so that whatever became of a name, the sample it stands for is
known. Hidden files (a leading dot) are not read, by design; they are counted apart.
"""

from __future__ import annotations

import collections
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.faults.cases import Builder, Source, digests, encoded
from tests.faults.readers import images_in_dali, images_in_tarfile, images_in_webdataset
from tests.faults.trial import Trial

NAMES = 10_000
SIZE_PX = 2
EXTENSIONS = (b".png", b".PNG", b".jpg", b".JpEg", b".webp")
"""All hold PNGs: what counts is the content."""
MAX_NAME_BYTES = 255


def drill(trial: Trial) -> dict[str, object]:
    """Build sets of such names from a folder, tars and a zip."""
    rng = trial.rng()
    folder = trial.folder / "outer" / "src"
    images = dict(enumerate(hostile_paths(rng, trial.count(NAMES, 5 * NAMES))))
    for number, path in images.items():
        write(os.path.join(os.fsencode(folder), path), png(number))
    add_what_is_no_image_file(folder)
    visible = {i: path for i, path in images.items() if not is_hidden(path)}
    hidden = len(images) - len(visible)
    figures: dict[str, object] = {"names": len(visible), "hidden_not_read": hidden}
    before = everything(trial.folder / "outer")
    builder = Builder(trial.folder)
    source = Source("folder", dict(source="folder", src=folder, size_px=SIZE_PX))
    expected = {i: os.fsdecode(path) for i, path in visible.items()}
    counts = check_set(trial, builder, source, trial.folder / "sets" / "set", expected)
    figures |= counts
    reference = digests(trial.folder / "sets" / "set")
    shutil.rmtree(trial.folder / "sets")
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        archive = trial.folder / "outer" / f"images-{kind}.tar"
        with tarfile.open(archive, "w", format=kind, errors="surrogateescape") as tar:
            for number, path in images.items():
                add(tar, os.fsdecode(path), png(number))
        out = trial.folder / "sets" / "set"
        check_set(trial, builder, archived(source, archive), out, expected)
        same = {name for name, digest in digests(out).items() if reference[name] == digest}
        trial.expect(
            same == set(reference) - {"manifest.json"},
            f"{archive.name}: only {sorted(same)} are as from the folder",
        )
        shutil.rmtree(out.parent)
        archive.unlink()
    figures["in_evil_tars"] = evil_tar(trial, builder, source)
    figures["in_evil_zips"] = evil_zip(trial, builder, source)
    stray = everything(trial.folder / "outer") - before
    trial.expect(not stray, f"written outside of the output folders: {sorted(stray)[:5]}")
    evil = [path for path in EVIL_TARGETS if os.path.lexists(path)]
    trial.expect(not evil, f"written where an archive says: {evil}")
    return {**figures, "written_outside": len(stray) + len(evil)}


# --- names ---


def hostile_paths(rng: np.random.Generator, count: int) -> list[bytes]:
    """Relative paths, all different, `count` of which are not hidden."""
    paths: dict[bytes, None] = {}
    kinds = list(KINDS.values())
    while len(paths) < count or sum(not is_hidden(path) for path in paths) < count:
        made = kinds[len(paths) % len(kinds)](rng, b"%d" % len(paths))
        for path in made if isinstance(made, list) else [made]:
            folder, _, name = path.rpartition(b"/")
            extension = EXTENSIONS[rng.integers(len(EXTENSIONS))]
            name = name[: MAX_NAME_BYTES - len(extension)] + extension
            paths[(folder + b"/" if folder else b"") + name] = None
    return list(paths)


def _random_bytes(rng: np.random.Generator, tag: bytes) -> bytes:
    """Any bytes that a name may have, most of them not UTF-8."""
    data = rng.integers(1, 256, rng.integers(1, 60), np.uint8).tobytes().replace(b"/", b"")
    return b"b" + data + tag


def _random_text(rng: np.random.Generator, tag: bytes) -> bytes:
    """Any characters, of all planes."""
    codes = rng.integers(1, 0x10FFFF, rng.integers(1, 40))
    text = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000 and code != 47)
    return b"t" + text.encode() + tag


KINDS: dict[str, Callable[[np.random.Generator, bytes], bytes | list[bytes]]] = {
    "dots": lambda rng, tag: b"a.b..c." + tag + b".tar.gz.cls." * int(rng.integers(1, 4)),
    "extensions": lambda rng, tag: tag + b".jpg.png.cls.bin.json.txt",
    "spaces": lambda rng, tag: b"  a \t" + tag + b"  b  ",
    "line breaks": lambda rng, tag: b"a\n" + tag + b"\r\n\x0b\x0c\xc2\x85\xe2\x80\xa8",
    "control": lambda rng, tag: bytes(rng.permutation(np.arange(1, 32, dtype=np.uint8))) + tag,
    "bytes": _random_bytes,
    "text": _random_text,
    "right to left": lambda rng, tag: (
        "\u202egpj.\u05d0\u05d1 \u0639\u0631\u0628\u064a".encode() + tag
    ),
    "composed": lambda rng, tag: ["\u00e9".encode() + tag, "e\u0301".encode() + tag],
    "invisible": lambda rng, tag: "\u200b\ufeff\u2060\U0001f469\u200d\U0001f680".encode() + tag,
    "case twins": lambda rng, tag: [b"Twin" + tag, b"tWIN" + tag, b"twin" + tag],
    "long": lambda rng, tag: tag + b"x" * MAX_NAME_BYTES,
    "long text": lambda rng, tag: tag + "\u6f22".encode() * 83,
    "keys": lambda rng, tag: b"%09d" % int(tag),
    "short keys": lambda rng, tag: b"k/" + tag,
    "files of a set": lambda rng, tag: tag + b"/set-train-00000.tar",
    "manifest": lambda rng, tag: tag + b"/manifest.json",
    "webdataset's": lambda rng, tag: b"__key__" + tag + b"__",
    "shell": lambda rng, tag: b"-rf $(touch x) `id` ; | & * ? [a] ~ ! #" + tag,
    "quotes": lambda rng, tag: b"\"'\\\\n\\u0000 {} %s %(x)s {{" + tag,
    "markup": lambda rng, tag: b"<script>&amp;[red]" + tag,
    "backslashes": lambda rng, tag: b"..\\..\\C:\\" + tag,
    "dots only": lambda rng, tag: tag + b"/x" + b"." * int(rng.integers(1, 9)),
    "folders like files": lambda rng, tag: b"folder.png/f.tar/" + tag,
    "folders of spaces": lambda rng, tag: b" / \n/" + tag,
    "deep": lambda rng, tag: b"d/" * int(rng.integers(10, 60)) + tag,
    "long folders": lambda rng, tag: (b"l" * 250 + b"/") * 5 + tag,
    "hidden": lambda rng, tag: b"." + tag,
    "in a hidden folder": lambda rng, tag: b"a/.b/" + tag,
}


def is_hidden(path: bytes) -> bool:
    """Whether any part of a path starts with a dot."""
    return any(part.startswith(b".") for part in path.split(b"/"))


# --- images ---


def png(number: int) -> bytes:
    """An image whose pixels are `number`."""
    pixels = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    pixels.reshape(-1)[:4] = np.frombuffer(number.to_bytes(4, "big"), np.uint8)
    return encoded(Image.fromarray(pixels), "PNG")


def number_of(pixels: bytes) -> int:
    """The number of an image, from its pixels."""
    return int.from_bytes(pixels[:4], "big") if not any(pixels[4:]) else -1


def write(path: bytes, data: bytes) -> None:
    """Write a file and the folders that it is in."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(handle, data)
    os.close(handle)


def add_what_is_no_image_file(folder: Path) -> None:
    """Links, a pipe, folders with an image's name, and files that are no images by their names."""
    outside = folder.parent / "outside.png"
    outside.write_bytes(png(1 << 30))
    (folder / "link.png").symlink_to(outside)
    (folder / "broken.png").symlink_to("nowhere")
    (folder / "round").symlink_to(folder)
    (folder / "up").symlink_to("..")
    (folder / "empty.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "notes.txt").write_text("no image")


def everything(folder: Path) -> set[bytes]:
    """All paths below a folder."""
    return {
        os.path.join(root, name)
        for root, folders, files in os.walk(os.fsencode(folder))
        for name in (*folders, *files)
    }


# --- checks ---


def archived(source: Source, archive: Path) -> Source:
    """The same set from an archive."""
    return Source(archive.name, {**source.options, "src": archive})


def check_set(
    trial: Trial, builder: Builder, source: Source, out: Path, expected: dict[int, str]
) -> dict[str, object]:
    """Build; every name that is expected is there once, with its own pixels, for all readers."""
    what = str(source.options["src"])
    outcome = builder.run(source.argv(out, shard_samples=3000))
    if not trial.expect(outcome.status == 0, f"{what}: {outcome}"):
        return {}
    lines = (out / "names.jsonl").read_bytes().splitlines()
    names = [json.loads(line) for line in lines]
    images = images_in_tarfile(out, "bin")
    numbers = [number_of(image) for image in images]
    wrong = [
        (number, name)
        for number, name in zip(numbers, names, strict=True)
        if expected.get(number) != name
    ]
    counted = collections.Counter(numbers)
    lost = set(expected) - set(counted)
    doubled = [number for number, times in counted.items() if times > 1]
    trial.expect(not wrong, f"{what}: {len(wrong)} samples have another's name: {wrong[:3]}")
    trial.expect(not lost, f"{what}: lost {[expected[i] for i in list(lost)[:3]]}")
    trial.expect(not doubled, f"{what}: more than once: {[expected[i] for i in doubled[:3]]}")
    trial.expect(not (out / "rejects.jsonl").exists(), f"{what}: some were rejected")
    manifest = json.loads((out / "manifest.json").read_text())
    counts = {
        "expected": len(expected),
        "manifest": manifest["samples"],
        "names_jsonl": len(names),
        "tarfile": len(images),
        "webdataset": len(images_in_webdataset(out, "bin")),
        "dali": len(set(images_in_dali(out, "bin"))),
    }
    trial.expect(len(set(counts.values())) == 1, f"{what}: counts differ: {counts}")
    return {**counts, "lost": len(lost), "doubled": len(doubled), "misnamed": len(wrong)}


# --- archives that mean harm ---

EVIL_TARGETS = ("/tmp/oodino-evil.png", "/oodino-evil.png")


def evil_tar(trial: Trial, builder: Builder, source: Source) -> int:
    """Members with absolute and climbing paths, doubles, and links, pipes and devices."""
    paths = [*EVIL_TARGETS, "../../evil.png", "a/../../../evil.png", "//evil.png", "./x.png"]
    paths += ["same.png"] * 3 + ["x/../same.png", "a/b/c.png", "..", "../..png"]
    archive = trial.folder / "outer" / "evil.tar"
    last: dict[str, int] = {}
    with tarfile.open(archive, "w", errors="surrogateescape") as tar:
        for number, path in enumerate(paths):
            add(tar, path, png(number))
            # Of doubles the last, as unpacking leaves it; ".." is a picture by its content.
            last["/".join(part for part in path.split("/") if part not in ("", "."))] = number
        add(tar, "a/._x.png", b"hidden")
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            special = tarfile.TarInfo(f"special-{kind.decode()}.png")
            special.type, special.linkname = kind, "same.png"
            if kind != tarfile.LNKTYPE:  # which is one more name of a picture that counts
                tar.addfile(special)
            special.name, special.linkname = f"outside-{kind.decode()}.png", "/etc/passwd"
            tar.addfile(special)
    expected = {number: name for name, number in last.items() if name != "../..png"}
    out = trial.folder / "sets" / "set"
    check_set(trial, builder, archived(source, archive), out, expected)
    shutil.rmtree(out.parent, ignore_errors=True)
    archive.unlink()
    return len(expected)


def evil_zip(trial: Trial, builder: Builder, source: Source) -> int:
    """The same in a zip, as far as it can hold them."""
    paths = [*EVIL_TARGETS, "../../evil.png", "a/../../evil.png", "same.png", "./x.png", "a\\b.png"]
    archive = trial.folder / "outer" / "evil.zip"
    expected = {}
    with zipfile.ZipFile(archive, "w") as packed:
        for number, path in enumerate([*paths, "\u05d0\n.png", "doubled.png"]):
            packed.writestr(zipfile.ZipInfo(path), png(number))
            parts = [part for part in path.split("/") if part not in ("", ".")]
            expected[number] = "/".join(parts)
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "/etc/passwd")
    out = trial.folder / "sets" / "set"
    check_set(trial, builder, archived(source, archive), out, expected)
    shutil.rmtree(out.parent, ignore_errors=True)
    archive.unlink()
    return len(expected)


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a regular file."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
