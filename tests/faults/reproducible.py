"""S4: the same images give the same bytes, whatever the machine, the user and the moment."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.faults.cases import Builder, Source, digests, jpeg_source, npy_source
from tests.faults.trial import Trial
from tests.support.commands import run_command

ENVIRONMENTS = (
    {"TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "1"},
    {"TZ": "America/St_Johns", "PYTHONHASHSEED": "2", "LC_ALL": "C"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "3", "PYTHONOPTIMIZE": "1"},
    {"OMP_NUM_THREADS": "1", "COLUMNS": "20", "NO_COLOR": "1", "HOME": "/nonexistent"},
)


def drill(trial: Trial) -> dict[str, object]:
    """Build in many ways; all sha256 of all files are equal, and the tars are what they should."""
    builds = 0
    builder = Builder(trial.folder)
    for source in (npy_source(trial.folder), jpeg_source(trial.folder)):
        reference: dict[str, str] = {}
        for what in ways(trial, builder, source):
            out = trial.folder / what.split(":")[0] / "set"
            found = digests(out) if out.exists() else {}
            reference = reference or found
            trial.expect(found and found == reference, f"{source.name}: {what}: other bytes")
            builds += 1
            check_members(trial, out)
            shutil.rmtree(out.parent, ignore_errors=True)
    archives = from_archives(trial, builder, source)
    return {"builds": builds, "from_archives": archives}


def ways(trial: Trial, builder: Builder, source: Source) -> Iterator[str]:
    """Build `source`, each time another way, into a folder named by the way's first word."""

    def argv(what: str, **options: object) -> list[str]:
        return source.argv(trial.folder / what / "set", **options)

    for workers in (1, 2, 4):
        builder.run(argv("workers", workers=workers))
        yield f"workers: {workers}"
    for seed in range(trial.count(4, 20)):
        builder.run(argv("listing", workers=1 + seed % 3), listing_seed=seed)
        yield f"listing: in the order of seed {seed}"
    for environment in ENVIRONMENTS:
        run_command("-m", "shards.build", *argv("environment"), env=environment)
        yield f"environment: {environment}"
    for mask in (0o077, 0o000):
        old = os.umask(mask)
        builder.run(argv("umask"))
        os.umask(old)
        yield f"umask: {mask:03o}"
    src = Path(str(source.options["src"]))
    for time_s in (0, 2_000_000_000):
        for path in (src, *src.rglob("*")):
            os.utime(path, (time_s, time_s))
        builder.run(argv("times"))
        yield f"times: {time_s}"
    moved = trial.folder / "moved" / src.name
    moved.parent.mkdir(exist_ok=True)
    (shutil.copytree if src.is_dir() else shutil.copy)(src, moved)
    os.chmod(moved, 0o700)
    builder.run(argv("moved", src=moved))
    yield "moved: source in another folder"


def from_archives(trial: Trial, builder: Builder, source: Source) -> int:
    """Tars and zips of a folder, their members in any order, give the same tars as the folder."""
    src = Path(str(source.options["src"]))
    files = sorted(path for path in src.rglob("*") if path.is_file())
    folder = trial.folder / "archives"
    folder.mkdir()
    builder.run(source.argv(folder / "plain" / "set"))
    reference = digests(folder / "plain" / "set")
    archives = {}
    for number, mode in enumerate(("w", "w:gz", "w:xz")):
        shuffled = trial.rng(number).permutation(len(files))
        archives[mode] = folder / f"{number}.tar"
        with tarfile.open(archives[mode], mode) as tar:
            for i in shuffled:
                tar.add(files[i], files[i].relative_to(src))
    archives["zip"] = folder / "images.zip"
    with zipfile.ZipFile(archives["zip"], "w", zipfile.ZIP_DEFLATED) as packed:
        for path in reversed(files):
            packed.write(path, path.relative_to(src))
    for kind, archive in archives.items():
        out = folder / "packed" / "set"
        outcome = builder.run(source.argv(out, src=archive))
        found = digests(out) if out.exists() else {}
        same = {name for name in found if found[name] == reference.get(name)}
        trial.expect(
            same == set(reference) - {"manifest.json"},
            f"{kind}: only {sorted(same)} are those of the folder ({outcome})",
        )
        shutil.rmtree(out.parent)
    return len(archives)


def check_members(trial: Trial, out: Path) -> None:
    """Members are plain USTAR, without time or owner, in the order of their names."""
    for path in out.glob("*.tar"):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in members}
            trial.expect(
                facts == {(0, 0, 0, "", "", 0o644, tarfile.REGTYPE)} and not tar.pax_headers,
                f"{path.name}: members have {facts}",
            )
        keys = [member.name.partition(".")[0] for member in members]
        trial.expect(keys == sorted(keys), f"{path.name}: keys are not in order")
        data = path.read_bytes()
        magic = {data[member.offset + 257 : member.offset + 265] for member in members}
        trial.expect(magic == {b"ustar\x0000"}, f"{path.name}: not USTAR: {magic}")
