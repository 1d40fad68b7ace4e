"""S6: damaged, disguised and oversized images, built as raw pixels and as JPEGs.

Each is either in rejects.jsonl with a reason or in the set; and what is in a set of JPEGs is
decoded in a whole epoch by DALI and by the reader. The build neither crashes nor takes memory out
of proportion, and starts no other program.
"""

from __future__ import annotations

import collections
import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from shards.reader import ShardSet
from tests.faults.cases import Outcome, Source, encoded, photographs
from tests.faults.readers import images_in_tarfile
from tests.faults.trial import Trial
from tests.shard_cases import ROOT

SIZE_PX = 64
MAX_PEAK_MB = 1000
"""Two images of the largest size that is taken (0.36 GB), decoded at once, and all else."""


def drill(trial: Trial) -> dict[str, object]:
    """Build all of them twice and look where each has gone."""
    src = trial.folder / "src"
    src.mkdir()
    files = mutated_images(trial, trial.count(1000, 10_000))
    mutants = len(files)
    files |= strange_images()
    for name, data in files.items():
        (src / name).write_bytes(data)
    figures: dict[str, object] = {"mutants": mutants, "strange": len(files) - mutants}
    programs = trial.folder / "programs"
    programs.mkdir()
    for program in ("gs", "gswin32c", "gswin64c", "djpeg", "cjpeg"):
        (programs / program).write_text(f"#!/bin/sh\ntouch '{programs}/started'\nexit 1\n")
        (programs / program).chmod(0o755)
    for encoding in ("raw", "jpg"):
        source = Source(
            encoding,
            dict(
                source="folder",
                src=src,
                size_px=SIZE_PX,
                encoding=encoding,
                max_rejects_pct=100,
                shard_samples=400,
            ),
        )
        out = trial.folder / encoding
        outcome, peak_mb = build_and_measure(source.argv(out), programs)
        trial.expect(peak_mb <= MAX_PEAK_MB, f"{encoding}: peak of {peak_mb} MB")
        figures[f"{encoding}_peak_MB"] = peak_mb
        if trial.expect(outcome.status == 0, f"{encoding}: {outcome}"):
            found = check_classified(trial, encoding, out, files)
            found |= (check_raw if encoding == "raw" else check_jpg)(trial, out, files)
            figures |= {f"{encoding}_{name}": value for name, value in found.items()}
    trial.expect(not (programs / "started").exists(), "an image made the build start a program")
    return figures


MEASURED_BUILD = """
import re, resource, sys
from pathlib import Path
from shards import build, cli
resource.setrlimit(resource.RLIMIT_AS, (10 << 30, 10 << 30))
try:
    cli.run(lambda: build.main(sys.argv[2:]))
finally:
    peak_kib = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
    Path(sys.argv[1]).write_text(peak_kib)
"""
"""The peak is not `ru_maxrss`: that of a child starts at its parent's. The limit is there so that a
bomb that goes off takes no more than its process along."""


def build_and_measure(argv: list[str], programs: Path) -> tuple[Outcome, int]:
    """Build in a process, `programs` first on its path; how it ended and its peak memory, MB."""
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    peak_path = programs / "peak_kib"
    command = [sys.executable, "-c", MEASURED_BUILD, str(peak_path), *argv]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    output = (ended.stdout + ended.stderr).decode("utf-8", "replace")
    peak_kib = int(peak_path.read_text()) if peak_path.exists() else 0
    return Outcome(ended.returncode, output), round(peak_kib * 1024 / 1e6)


# --- checks ---


def lines_of(path: Path) -> list:
    """The values in a file of JSON lines."""
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def check_classified(
    trial: Trial, encoding: str, out: Path, files: dict[str, bytes]
) -> dict[str, int]:
    """Each file is in one of the two lists, once."""
    accepted, rejects = lines_of(out / "names.jsonl"), lines_of(out / "rejects.jsonl")
    seen = collections.Counter([*accepted, *(reject["name"] for reject in rejects)])
    missing = set(files) - set(seen)
    trial.expect(not missing, f"{encoding}: neither accepted nor rejected: {sorted(missing)[:5]}")
    strangers = [name for name, times in seen.items() if times > 1 or name not in files]
    trial.expect(not strangers, f"{encoding}: twice or unknown: {strangers[:5]}")
    unclear = [r for r in rejects if not r["reason"].strip() or "\n" in r["reason"]]
    trial.expect(not unclear, f"{encoding}: rejected without a reason of one line: {unclear[:3]}")
    for name in MUST_BE_REJECTED & set(files):
        trial.expect(name not in accepted, f"{encoding}: {name} was accepted")
    for name in MUST_BE_ACCEPTED & set(files):
        trial.expect(name in accepted, f"{encoding}: {name} was rejected")
    by_dali = sum(r["reason"].startswith("DALI") for r in rejects)
    return {
        "accepted": len(accepted),
        "rejected": len(rejects),
        "rejected_by_dali_only": by_dali,
        "unclassified": len(missing),
    }


def check_raw(trial: Trial, out: Path, files: dict[str, bytes]) -> dict[str, int]:
    """The pixels in a raw set are Pillow's."""
    other = []
    images = images_in_tarfile(out, "bin")
    for name, pixels in zip(lines_of(out / "names.jsonl"), images, strict=True):
        if name not in HAVE_A_RULE_OF_THEIR_OWN and pixels != by_pillow(files[name]).tobytes():
            other.append(name)
    trial.expect(not other, f"raw: {len(other)} images are not as Pillow decodes: {other[:5]}")
    return {"other_than_pillow": len(other)}


def by_pillow(data: bytes) -> np.ndarray:
    """What the contract says an accepted file becomes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    if image.size != (SIZE_PX, SIZE_PX):
        image = image.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)
    return np.asarray(image)


def check_jpg(trial: Trial, out: Path, files: dict[str, bytes]) -> dict[str, int]:
    """All JPEGs of a set are decoded by DALI in a whole epoch, and by the reader."""
    names = lines_of(out / "names.jsonl")
    stored = images_in_tarfile(out, "jpg")
    as_they_were = sum(data == files[name] for name, data in zip(names, stored, strict=True))
    changed = [
        name
        for name, data in zip(names, stored, strict=True)
        if is_jpeg_of_the_size(files[name]) and data != files[name]
    ]
    trial.expect(not changed, f"jpg: not stored as they are: {changed[:5]}")
    decoded = decoded_epoch(trial, out)
    trial.expect(len(decoded) == len(names), f"jpg: DALI gave {len(decoded)} of {len(names)}")
    with ShardSet.open(out) as shards:
        read = shards.read(np.arange(len(shards)))
    differ = [
        name
        for name, ours, theirs in zip(names, read, decoded, strict=False)
        if np.abs(ours.astype(np.int16) - theirs).mean() > 4
    ]
    return {
        "stored_as_they_were": as_they_were,
        "decoded_by_dali": len(decoded),
        "decoded_by_the_reader": len(read),
        "accepted_but_undecodable": len(names) - len(decoded),
        "decoders_differ": len(differ),
    }


def decoded_epoch(trial: Trial, out: Path) -> np.ndarray:
    """What DALI decodes in an epoch; in a process of its own, for an error may crash it."""
    path = out.parent / "decoded.npy"
    command = [sys.executable, "-m", "tests.faults.readers", str(out), "jpg", str(path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    trial.expect(ended.returncode == 0, f"jpg: an epoch in DALI ended with {ended}")
    return np.load(path) if path.exists() else np.zeros((0, SIZE_PX, SIZE_PX, 3), np.uint8)


def is_jpeg_of_the_size(data: bytes) -> bool:
    """Whether a file should be stored as it is."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            turned = image.getexif().get(0x0112, 1)
            return (image.format, image.mode, image.size, turned) == (
                "JPEG",
                "RGB",
                (SIZE_PX, SIZE_PX),
                1,
            )
    except Exception:  # what Pillow raises on damaged files is anything
        return False


# --- mutants ---


def mutated_images(trial: Trial, count: int) -> dict[str, bytes]:
    """As many of each format and each mutator."""
    rng = trial.rng()
    formats: dict[str, Callable[[Image.Image], bytes]] = {
        "jpg": lambda image: encoded(image, "JPEG", quality=90),
        "progressive.jpg": lambda image: encoded(image, "JPEG", quality=85, progressive=True),
        "png": lambda image: encoded(image, "PNG"),
        "webp": lambda image: encoded(image, "WEBP", quality=85),
    }
    files = {}
    images = photographs(SIZE_PX, seed=6)
    for i in range(count):
        extension, encode = list(formats.items())[i % len(formats)]
        mutator = list(MUTATORS)[i // len(formats) % len(MUTATORS)]
        whole = encode(next(images))
        files[f"{i:05d}-{mutator}.{extension}"] = MUTATORS[mutator](rng, whole)
    return files


def _span(rng: np.random.Generator, data: bytes, longest: int = 200) -> slice:
    start = int(rng.integers(0, len(data)))
    return slice(start, start + int(rng.integers(1, longest)))


def _flip(rng: np.random.Generator, data: bytes, bits: int, end: int) -> bytes:
    flipped = bytearray(data)
    for place in rng.integers(0, min(end, len(data)), bits):
        flipped[place] ^= 1 << rng.integers(8)
    return bytes(flipped)


def _replace(data: bytes, span: slice, by: bytes) -> bytes:
    return data[: span.start] + by + data[span.stop :]


def _twice(data: bytes, span: slice) -> bytes:
    return data[: span.stop] + data[span.start :]


MUTATORS: dict[str, Callable[[np.random.Generator, bytes], bytes]] = {
    "one-bit": lambda rng, data: _flip(rng, data, 1, len(data)),
    "bits": lambda rng, data: _flip(rng, data, int(rng.integers(2, 40)), len(data)),
    "header": lambda rng, data: _flip(rng, data, int(rng.integers(1, 8)), 64),
    "cut": lambda rng, data: data[: rng.integers(0, len(data))],
    "cut-end": lambda rng, data: data[: -int(rng.integers(1, 12))],
    "zeros": lambda rng, data: _replace(data, s := _span(rng, data), bytes(s.stop - s.start)),
    "noise": lambda rng, data: _replace(data, s := _span(rng, data), rng.bytes(s.stop - s.start)),
    "removed": lambda rng, data: _replace(data, _span(rng, data), b""),
    "twice": lambda rng, data: _twice(data, _span(rng, data)),
    "appended": lambda rng, data: data + rng.bytes(int(rng.integers(1, 500))),
    "halves": lambda rng, data: data[len(data) // 2 :] + data[: len(data) // 2],
}


# --- strange images ---

MUST_BE_REJECTED = {
    "bomb.png",
    "bomb.jpg",
    "bomb.webp",
    "bomb.tif",
    "bomb.bmp",
    "just-too-large.png",
    "empty.jpg",
    "empty.png",
    "zero-byte.jpg",
    "html.jpg",
    "postscript.jpg",
}
MUST_BE_ACCEPTED = {
    "largest.png",
    "cmyk.jpg",
    "rotated.jpg",
    "gray.jpg",
    "palette.png",
    "transparent.png",
    "16-bit.png",
    "1-bit.png",
}
HAVE_A_RULE_OF_THEIR_OWN = {"16-bit.png"}
"""The upper byte is taken, where Pillow would clip."""


def strange_images() -> dict[str, bytes]:
    """Bombs, files that are no images, and images of rare kinds."""
    image = next(photographs(SIZE_PX, seed=7))
    wide = next(photographs(96, seed=8)).crop((0, 0, 96, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    sixteen = Image.fromarray(np.arange(SIZE_PX * SIZE_PX, dtype=np.uint16).reshape(64, 64) * 16)
    frames = list(next_images(3))
    files = {
        "bomb.png": png_header(65_500, 65_500, zlib.compress(b"\0" * 1000)),
        "bomb-max.png": png_header(2**31 - 1, 2**31 - 1, zlib.compress(b"\0" * 1000)),
        "bomb.jpg": with_jpeg_size(encoded(image, "JPEG"), 65_500, 65_500),
        "bomb.webp": webp_header(65_500, 65_500),
        "bomb-lossless.webp": lossless_webp_header(16_384, 16_384),
        "bomb.bmp": bmp_header(65_500, 65_500),
        "bomb.tif": with_tiff_size(encoded(image, "TIFF"), 65_500, 65_500),
        "bomb-text.png": png_with_text(encoded(image, "PNG"), 100_000_000),
        "just-too-large.png": encoded(Image.new("L", (9_460, 9_460)), "PNG"),
        "largest.png": encoded(Image.new("RGB", (9_459, 9_459)), "PNG", compress_level=1),
        "thin.png": encoded(Image.new("L", (65_500, 1)), "PNG"),
        "empty.jpg": b"",
        "empty.png": b"",
        "zero-byte.jpg": b"\0",
        "html.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "postscript.jpg": POSTSCRIPT,
        "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>',
        "gif.jpg": encoded(image, "GIF"),
        "gif-frames.jpg": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "frames.png": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "frames.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "gray.jpg": encoded(image.convert("L"), "JPEG"),
        "rotated.jpg": encoded(wide, "JPEG", exif=exif),
        "rotated-square.jpg": encoded(image, "JPEG", exif=exif),
        "palette.png": encoded(image.quantize(64), "PNG"),
        "transparent.png": encoded(image.convert("RGBA"), "PNG"),
        "gray-alpha.png": encoded(image.convert("LA"), "PNG"),
        "16-bit.png": encoded(sixteen, "PNG"),
        "1-bit.png": encoded(image.convert("1"), "PNG"),
        "one-pixel.png": encoded(image.resize((1, 1)), "PNG"),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "jpeg.png": encoded(image, "JPEG"),
    }
    return files


def next_images(count: int) -> list[Image.Image]:
    """Some photographs of the size."""
    images = photographs(SIZE_PX, seed=10)
    return [next(images) for _ in range(count)]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG that says it is so large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_with_text(data: bytes, text_bytes: int) -> bytes:
    """A PNG with a compressed text of zeros before its pixels."""
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(text_bytes), 9))
    return data[:33] + text + data[33:]


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header says another size."""
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def webp_header(width: int, height: int) -> bytes:
    """An extended WebP whose canvas is so large, with one small picture."""
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    simple = encoded(Image.new("RGB", (8, 8)), "WEBP")
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size + simple[12:]
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def lossless_webp_header(width: int, height: int) -> bytes:
    """A lossless WebP that says it is so large (its format's maximum is 16,384)."""
    bits = (width - 1) | (height - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + bytes(32)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def bmp_header(width: int, height: int) -> bytes:
    """A bitmap that says it is so large."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def with_tiff_size(data: bytes, width: int, height: int) -> bytes:
    """A TIFF whose first directory says another size."""
    changed = bytearray(data)
    start = struct.unpack_from("<I", data, 4)[0]
    for i in range(struct.unpack_from("<H", data, start)[0]):
        tag = struct.unpack_from("<H", data, start + 2 + 12 * i)[0]
        if tag in (256, 257):
            value = width if tag == 256 else height
            struct.pack_into("<HHII", changed, start + 2 + 12 * i, tag, 4, 1, value)
    return bytes(changed)


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 64 64
%%EndComments
0 0 64 64 rectfill
showpage
%%EOF
"""
"""Pillow has another program, Ghostscript, decode this."""
