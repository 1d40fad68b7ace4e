"""Installs the declared minima and uses the project with them: `python -m tests.support.minima`.

The minimum of every requirement in setup.py is installed, all of them together, into a virtual
environment of its own; torch, torchvision and DALI, which are gigabytes, are those of the
environment that runs this. Then a part of the sample is built, trained on for some steps, scored
and exported. What was installed, and what the minima ask of each other, goes to minima.json beside
this file, by which the tests notice a minimum that was changed and not tried. The last line is
JSON; exit status 1 if a step failed.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shards.errors import UserError
from shards.terminal import cli
from tests.support.paths import ROOT

SEEN = Path(__file__).with_suffix(".json")
BORROWED = ("torch", "torchvision", "nvidia-dali-cuda130", "nvidia-dali-cuda120")
"""Taken as they are, with what they need of these:"""
BORROWED_PREFIXES = ("cuda-", "nvidia-", "torch", "triton")
SHOWN_LINES = 15


@dataclass(frozen=True)
class MinimaRequest:
    """Where to work."""

    out: Path = ROOT / "out" / "minima"
    """New folder for the environment and for what is built."""


def declared() -> dict[str, Requirement]:
    """All requirements in setup.py, extras included, by their canonical names."""
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    told = setup.call_args.kwargs
    texts = [*told["install_requires"], *sum(told["extras_require"].values(), [])]
    found: dict[str, Requirement] = {}
    for requirement in map(Requirement, texts):
        name = canonicalize_name(requirement.name)
        if found.setdefault(name, requirement) != requirement:
            raise UserError(f"setup.py: {found[name]} and {requirement}")
    return found


def minimum(requirement: Requirement) -> str:
    """The version that a requirement begins with.

    Raises:
        UserError: it states none, or more than that.
    """
    bounds = list(requirement.specifier)
    if len(bounds) != 1 or bounds[0].operator != ">=":
        raise UserError(f"setup.py: {requirement} should state a minimum, NAME>=VERSION, alone")
    return bounds[0].version


def minima() -> dict[str, str]:
    """Name -> minimum of what is installed here; what is borrowed is left out."""
    return {
        name: minimum(requirement)
        for name, requirement in declared().items()
        if name not in BORROWED
    }


def borrow(site: Path) -> dict[str, str]:
    """Link what is borrowed, and what it needs of its vendors, into a folder of packages.

    Returns:
        Name -> version of what `BORROWED` names, as far as it is installed.
    """
    versions, waiting, seen = {}, list(BORROWED), set()
    while waiting:
        name = waiting.pop()
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # the other flavour of DALI, or what another system needs
        seen.add(name)
        if name in BORROWED:
            versions[name] = found.version
        for file in found.files or ():
            target, link = Path(str(found.locate_file(file.parts[0]))), site / file.parts[0]
            if file.parts[0] not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(target)
        needs = (canonicalize_name(Requirement(one).name) for one in found.requires or ())
        waiting += [one for one in needs if one.startswith(BORROWED_PREFIXES) and one not in seen]
    return versions


def steps(out: Path) -> dict[str, list[object]]:
    """What is tried: name -> arguments of Python, in order."""

    def build(
        source: str, src: Path | str, split: str, name: str, *options: object
    ) -> list[object]:
        to = ["--size-px", 28, "--out", out / name]
        what = ["--source", source, "--src", src, "--split", split]
        return ["-m", "shards.build", *what, *to, *options]

    sample = ROOT / "shards" / "sample"
    train, test, bag = (out / name for name in ("train", "test", "bag"))
    run, file, pictures = out / "run", out / "file.onnx", out / "pictures"
    files = (
        "from pathlib import Path; from tests.support.source_cases import *; "
        f"out = Path({str(out)!r}); write_lsun(out); write_svhn(out); "
        "write_webdataset(out / 'tars'); write_images(out, 'pictures', packed=False)"
    )
    views = ["--views.global-px", 28, "--views.local-px", 14]
    sets = ["--in-dist-train", train]
    return {
        "build": build("idx", sample, "test", "train", "--labels", 5, 7, 9),
        "build the test set": build("idx", sample, "train", "test", "--labels", 5),
        "build an OOD set": build("idx", sample, "test", "bag", "--labels", 8),
        "make other sources": ["-c", files],
        "build from LMDB": build("lsun", out, "test", "lsun", "--no-count"),
        "build from MATLAB's": build("svhn", out, "test", "svhn", "--no-count", "--no-md5"),
        "build from tars": build("webdataset", f"file://{out}/tars/shard-000.tar", "train", "web"),
        "build from files": build("folder", pictures, "test", "files", "--encoding", "jpg"),
        "overlap": ["-m", "shards.overlap", train, bag, "--out", out / "groups.jsonl"],
        "info": ["-m", "shards.info", train, "--sheet", out / "sheet.png"],
        "preview": ["-m", "dali_pipes.preview", train, *views, "--out", out / "preview.png"],
        "train": [
            *("train/main.py", "demo-cpu", "--in-dist", train, "--out", run),
            *("--epochs", 1, "--optim.warmup-epochs", 0.5),
        ],
        "train a network of timm": [
            *("train/main.py", "auto", "--in-dist", bag, "--out", out / "named", "--epochs", 1),
            *("--model.name", "test_resnet", "--model.drop-path", 0, "--precision", "fp32"),
        ],
        "tensorboard": ["-m", "tensorboard.main", "--inspect", "--logdir", run],
        "score": [
            *("eval/score.py", run, *sets, "--in-dist-test", test, "--ood", bag),
            *("--baselines", "--out", out / "scores"),
        ],
        "export": ["eval/export.py", run, *sets, "--calibration", test, "--out", file],
        "export fewer": [
            *("eval/export.py", run, *sets, "--calibration", test, "--bank", 50),
            *("--out", out / "fewer.onnx"),
        ],
        "exported": ["-m", "eval.exported", file, pictures, "--out", out / "scores.csv"],
    }


def run(command: Sequence[object], environment: Mapping[str, str]) -> str:
    """Run a command in the repository; what it said last if it failed, else ""."""
    ended = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return "\n".join(ended.stdout.splitlines()[-SHOWN_LINES:]) if ended.returncode else ""


def asked(site: Path) -> dict[str, dict[str, Any]]:
    """Of each minimum that is installed: its version, and what it asks of the other ones."""
    found = {}
    there = declared()
    for one in metadata.distributions(path=[str(site)]):
        name = canonicalize_name(one.metadata["Name"])
        if name in there and name not in BORROWED:
            needs = [need for need in map(Requirement, one.requires or ()) if need.marker is None]
            found[name] = {
                "version": one.version,
                "asks": sorted(
                    str(need) for need in needs if canonicalize_name(need.name) in there
                ),
            }
    return dict(sorted(found.items()))


def main(argv: Sequence[str] | None = None) -> None:
    """Install, try, and print a line for each step and the summary."""
    request = cli.parse(MinimaRequest, argv, description=__doc__)
    tried = minima()
    pins = [f"{name}=={version}" for name, version in tried.items()]
    if request.out.exists():
        raise UserError(f"out is {request.out}, which exists already; remove it")
    home, out = request.out.resolve() / "venv", request.out.resolve() / "made"
    out.mkdir(parents=True)
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = home / "lib" / version / "site-packages"
    pins += [f"{name}=={there}" for name, there in borrow(site).items()]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    environment |= {"OMP_NUM_THREADS": environment.get("OMP_NUM_THREADS", "1")}
    todo: dict[str, list[object]] = {
        "install": ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins],
        "pip check": ["-m", "pip", "check"],
        **steps(out),
    }
    failures: list[str] = []
    seconds: dict[str, float] = {}
    for name, arguments in todo.items():
        start_s = time.monotonic()
        failure = run([python, *arguments], environment)
        seconds[name] = round(time.monotonic() - start_s, 1)
        print(f"{name:<26}{'failed' if failure else 'ok':<8}{seconds[name]:>7} s", flush=True)
        if failure:
            failures.append(name)
            print(failure, flush=True)
            if name == "install":
                break
    if not failures:
        SEEN.write_text(json.dumps(asked(site), indent=1) + "\n")
    print(json.dumps({"minima": tried, "seconds": seconds, "failures": failures}))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    cli.run(main)
