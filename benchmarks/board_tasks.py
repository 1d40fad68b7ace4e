"""The tasks of the board as data: which images are normal, which are the outliers.

A task has a training set, a test set of other normal images, and sets of outliers (OOD). Three
kinds of sources are used: the sample in this repository, the official files of Fashion-MNIST, and
folders of emoji and of textures with painted defects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shards.protocols import FASHION_CLASSES

SIZE_PX = 32
"""Side of the images of the folders."""
FEW = 100, 300, 600, 1200
"""Numbers of training images of the tasks with few images."""
SEEDS = 0, 1, 2
"""Seeds of the draws of few training images. The figures of such a task are means over them."""
FOOTWEAR_OOD = "t-shirt", "trouser", "pullover", "dress", "coat", "bag", "shirt"
EMOJI_OOD = "animals-nature", "flags", "food-drink", "travel-places"


@dataclass(frozen=True)
class Sets:
    """Where the sets of a task come from."""

    group: str
    """Folder of the sets: footwear and one-class are protocols of `shards.sets`, the others are
    folders of image folders."""
    train: str
    test: str
    ood: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """One training and one scoring."""

    name: str
    """Name of its output folders."""
    sets: Sets
    run: str
    """Name of the run. Two trials may score one run."""
    recipe: str = "auto"
    count: int | None = None
    """Number of training images that are drawn. None for all."""
    seed: int = 0
    """Seed of the draw."""


FOOTWEAR = Sets("footwear", "in-dist-train", "in-dist-test", FOOTWEAR_OOD)
EMOJI = Sets("emoji", "normal-train", "normal-test", EMOJI_OOD)


def one_class(normal: str) -> Sets:
    """Return the sets of a one-class task: the nine other classes are the outliers."""
    others = tuple(f"{name}-test" for name in FASHION_CLASSES if name != normal)
    return Sets("one-class", f"{normal}-train", f"{normal}-test", others)


def texture(ood: str) -> Sets:
    """Return the sets of a texture task."""
    return Sets("texture", "normal-train", "normal-test", (ood,))


def _tasks() -> Iterator[tuple[str, tuple[Trial, ...]]]:
    yield "footwear", (Trial("footwear", FOOTWEAR, "footwear", recipe="demo-cpu"),)
    for name in FASHION_CLASSES:
        task = f"one-class-{name}"
        yield task, (Trial(task, one_class(name), task),)
    yield "emoji", (Trial("emoji", EMOJI, "emoji"),)
    for ood in ("defect", "far"):
        task = f"texture-{ood}"
        yield task, (Trial(task, texture(ood), "texture"),)
    for group, sets in (("footwear", FOOTWEAR), ("emoji", EMOJI)):
        for count in FEW:
            names = [(f"{group}-{count}-{seed}", seed) for seed in SEEDS]
            yield (
                f"{group}-{count}",
                tuple(Trial(name, sets, name, count=count, seed=seed) for name, seed in names),
            )


TASKS: dict[str, tuple[Trial, ...]] = dict(_tasks())
"""Task -> its trials, one or one for each seed."""
