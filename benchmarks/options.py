"""The options of the benchmarks' commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional


@dataclass(frozen=True)
class LoaderOptions:
    """The options of `benchmarks.loader`."""

    repeats: int = 5
    """Number of rounds; each round times every peer once."""
    seconds: float = 2.0
    """Shortest time of a peer in a round, in seconds."""
    steps: int = 2000
    """Number of steps over which the growth of memory is measured; 1252 steps are a pass over the
    auxiliary set."""
    skip_scale: bool = False
    """Leave out the set of ImageNet's size, which takes 8 GB of disk."""
    folder: Path | None = None
    """Folder for temporary files; by default the system's temporary folder."""


@dataclass(frozen=True)
class StepOptions:
    """The options of `benchmarks.step`."""

    batch: int = 4
    """Number of images in a step; on a GPU, 64 or more."""
    rounds: int = 5
    """Number of rounds; each round times every peer once."""
    peers: tuple[str, ...] = ()
    """Time only these peers, for example "bare bf16"; by default all."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    """Time also a student that torch.compile compiles, which takes minutes on a CPU."""
    steps_only: bool = False
    """Leave out the measurements that run in separate processes: waits and memory."""


@dataclass(frozen=True)
class ScorerOptions:
    """The options of `benchmarks.scorer`."""

    test: int = 10_000
    """Number of test features."""
    bank: int = 50_000
    """Number of features in the bank."""
    width: int = 384
    """Length of a feature."""
    k: int = 50
    """Number of neighbours of the k-NN score."""
    tau: float = 0.04
    """Temperature of Eq. 6."""
    rounds: int = 3
    """Number of rounds; each round times every peer once."""
    peers: tuple[str, ...] = ()
    """Time only these peers, for example oneDNN and eq6; by default all."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    """Number of threads of every peer on a CPU; 0 = the number of cores."""
    clock: Literal["wall", "cpu"] = "wall"
    """wall = elapsed time; cpu = CPU time of this process, for one thread on a busy machine."""


@dataclass(frozen=True)
class ShardsOptions:
    """The options of `benchmarks.shards`."""

    repeats: int = 7
    """Number of rounds; each round times every peer once."""
    jpegs: int = 1600
    """Number of JPEG files."""
    array_mb: int = 600
    """Size in MB of the array that is converted."""
    skip_scale: bool = False
    """Leave out the set of ImageNet's size, which takes 10 GB of disk."""
    folder: Path | None = None
    """Folder for temporary files; by default the system's temporary folder."""


@dataclass(frozen=True)
class GpuCheckOptions:
    """The options of `benchmarks.gpu_check`: there are none."""


@dataclass(frozen=True)
class DetectorOptions:
    """The options of `benchmarks.detector`."""

    run: Positional[Path]
    """Run directory."""
    in_dist_train: Path
    """Shard set of the bank."""
    calibration: Path
    """Shard set of held-out normal images. They tune the ensemble, and are the images that are
    scored."""
    images: int = 900
    """Number of images that are scored."""
    rounds: int = 5
    """Number of rounds; each round times every peer once."""
