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
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from shards.reader import ShardSet
from tests.faults.bad_images import (
    HAVE_A_RULE_OF_THEIR_OWN,
    MUST_BE_ACCEPTED,
    MUST_BE_REJECTED,
    SIZE_PX,
    mutated_images,
    strange_images,
)
from tests.faults.cases import Outcome, Source
from tests.faults.readers import images_in_tarfile
from tests.faults.trial import Trial
from tests.support.paths import ROOT

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
from shards import build
from shards.terminal import cli
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
