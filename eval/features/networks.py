"""The networks that compute features: a run's teacher, this network untrained, raw pixels, timm.

Legend: N images, d feature width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import timm
import torch
from torch import Tensor, nn

from dali_pipes.batch import RGB_MEAN, RGB_STD
from dali_pipes.dali.version import dali_version
from dali_pipes.eval_loader import EvalLoader, ImageSource
from eval.config import CommonConfig, DetectorConfig, SetsConfig
from eval.features.cache import FeatureCache
from eval.features.embed import embed, pixel_features
from eval.features.view_features import Turned, ViewFeatures
from eval.sets.feature_file import FeatureFile
from eval.sets.opening import EvalSets
from shards.errors import UserError
from shards.reader import ShardSet
from train.config import ModelConfig
from train.networks.backbone import build_backbone, check_name
from train.networks.model import untrained_backbone
from train.networks.pretrained import load_init
from train.teacher import LoadedTeacher
from train.world import World, over_ranks

TEACHER, UNTRAINED, PIXEL = "teacher", "untrained", "pixel"
LABELS = {PIXEL: "pixel cosine", UNTRAINED: "untrained network", TEACHER: "trained teacher"}
CACHE_FOLDER = "features"
"""Default folder of the feature cache, relative to the run folder."""


class Features(Protocol):
    """A source of features: a network or a feature file. Each source is one row of the tables."""

    @property
    def key(self) -> str:
        """The key in results.json: teacher, untrained, pixel, timm:NAME or npz:NAME."""

    @property
    def label(self) -> str:
        """The name that tables and figures show."""

    def of_sets(self, sets: EvalSets) -> dict[str, Tensor]:
        """Return the features of every set. All ranks must call this method.

        Returns:
            Set -> float32 [N, d] on the device of the rank. Row i is the feature of the image with
            id i.
        """


@dataclass(frozen=True)
class Network:
    """A network (or raw pixels) that computes features from images. It implements `Features`."""

    key: str
    label: str
    of_images: Callable[[ImageSource, range], Tensor]
    """Function that takes a source of images and N consecutive ids, and returns the features of
    these images, float32 [N, d] on the device."""
    cache: FeatureCache
    """Cache for the features of whole sets."""
    world: World
    """The ranks. Each rank computes the features of its share of a set."""
    depends_on: dict[str, str | int] = field(default_factory=dict)
    """Everything except the images on which the features depend. Empty means that the features are
    not cached, because computing them is as fast as reading them."""
    backbone: nn.Module | None = None
    """The torch module that takes views, float32 [N, 3, crop_px, crop_px]. None for features that
    need no network."""
    crop_px: int = 0
    """Side of the views in pixels. 0 for features that need no network."""

    def of_sets(self, sets: EvalSets) -> dict[str, Tensor]:
        """Return the features of every set; see `Features.of_sets`."""
        return {name: self.of_shards(shards) for name, shards in sets.shards.items()}

    def module(self, size_px: int) -> ViewFeatures:
        """Return the network as a module from images of side `size_px` to features, on the CPU."""
        assert self.backbone is not None, f"{self.key} has no network"
        return ViewFeatures(self.backbone, size_px, self.crop_px)

    def of_shards(self, shards: ShardSet) -> Tensor:
        """Return the features of one set, float32 [N, d]. All ranks must call this method."""
        key = self.depends_on and {**self.depends_on, "set": shards.manifest.sha256}
        make = partial(over_ranks, len(shards), self.world, partial(self.of_images, shards))
        return self.cache.get(key, make, self.world)


def all_features(
    config: SetsConfig,
    teacher: LoadedTeacher | None,
    files: Sequence[FeatureFile],
    world: World,
) -> Iterator[Features]:
    """Yield the networks and files that the options ask for, in the order of the tables' rows.

    The teacher comes last. A network is built only when the caller takes it, so only one is built
    at a time.

    Args:
        config: options that were checked.
        teacher: the teacher of the run. None if there is no run.
        files: the files of `config.features`.
        world: the ranks.

    Raises:
        UserError: a network cannot be loaded, or two rows would have the same label. The message
            names the option.
    """
    _check_labels(config, files)
    cache = cache_of(config)
    if config.baselines:
        yield _pixel_network(cache, world)
    if config.baselines and teacher is not None:
        yield start_network(teacher, config, world, cache)
    for name in config.backbone:
        yield timm_network(name, config, cache, world)
    yield from files
    if teacher is not None:
        yield teacher_network(teacher, config, world, cache)


def teacher_network(
    teacher: LoadedTeacher, config: CommonConfig, world: World, cache: FeatureCache
) -> Network:
    """Return the network that computes the features of a run's teacher."""
    crop_px = teacher.config.views.global_px
    label, weights = LABELS[TEACHER], teacher.sha256
    network = teacher.backbone
    return _network(TEACHER, label, network, crop_px, config, cache, world, weights=weights)


def turned_network(
    teacher: LoadedTeacher, quarters: int, config: CommonConfig, world: World, cache: FeatureCache
) -> Network:
    """Return the network that computes the teacher's features of images turned by right angles."""
    degrees = f"{90 * quarters}"
    return _network(
        f"{TEACHER}-turned-{degrees}",
        f"{LABELS[TEACHER]}, images turned by {degrees} degrees",
        Turned(teacher.backbone, quarters),
        teacher.config.views.global_px,
        config,
        cache,
        world,
        weights=f"{teacher.sha256}-turned-{degrees}",
    )


def start_network(
    teacher: LoadedTeacher,
    config: CommonConfig,
    world: World,
    cache: FeatureCache,
) -> Network:
    """Return the network of a run as it was before its first step: untrained, or pretrained."""
    network = untrained_backbone(teacher.config, world.device)
    crop_px = teacher.config.views.global_px
    return _network(UNTRAINED, LABELS[UNTRAINED], network, crop_px, config, cache, world)


def cache_of(config: SetsConfig | DetectorConfig) -> FeatureCache:
    """Return the cache in the folder of --cache, or in RUN/features by default.

    Without --cache and RUN, the cache stores nothing.
    """
    return FeatureCache(config.cache or (config.run and config.run / CACHE_FOLDER))


def _check_labels(config: SetsConfig, files: Sequence[FeatureFile]) -> None:
    """Refuse a file with the label of a network, because labels tell the rows of a table apart."""
    taken = {*LABELS.values(), *(_timm_name(given) for given in config.backbone)}
    for file in files:
        if file.label in taken:
            raise UserError(
                f"--features {file.path}: another network is called {file.label!r}; rename the file"
            )


def _pixel_network(cache: FeatureCache, world: World) -> Network:
    def features(images: ImageSource, ids: range) -> Tensor:
        return pixel_features(images, ids).to(world.device)

    return Network(PIXEL, LABELS[PIXEL], features, cache, world)


def _network(
    key: str,
    label: str,
    network: nn.Module,
    crop_px: int,
    config: CommonConfig,
    cache: FeatureCache,
    world: World,
    *,
    weights: str = "",
) -> Network:
    """Return the `Network` of a torch module that takes views of `crop_px` x `crop_px` pixels.

    Args:
        key: key in results.json.
        label: name in tables and figures.
        network: the torch module.
        crop_px: side of a view in pixels.
        config: the options of the scoring.
        cache: cache for the features.
        world: the ranks.
        weights: digest of the module's weights. "" means that the digest is computed here.
    """

    def features(images: ImageSource, ids: range) -> Tensor:
        loader = EvalLoader(images, crop_px, config.batch, world.device, config.num_threads, ids)
        return embed(network, loader, world.device, config.precision, ids=ids)

    depends_on: dict[str, str | int] = {
        "weights": weights or _digest(network),
        "crop_px": crop_px,
        "precision": config.precision,
        "device": world.device.type,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "dali": dali_version(),
    }
    return Network(key, label, features, cache, world, depends_on, network, crop_px)


def _timm_name(given: str) -> str:
    return given.removeprefix("timm:").partition("@")[0]


def timm_network(given: str, config: SetsConfig, cache: FeatureCache, world: World) -> Network:
    """Return the network timm:NAME, or timm:NAME@FILE with the weights of a file.

    The normalisation is taken from the network's configuration in timm, and so is the size of the
    views unless --backbone-px gives it.
    """
    name, file = _timm_name(given), given.partition("@")[2]
    check_name(name, f"--backbone is {given}")
    own = timm.get_pretrained_cfg(name)
    if own is None:
        raise UserError(f"--backbone is {given}, but timm does not know its image size")
    crop_px = config.backbone_px or own.input_size[-1]
    model = ModelConfig(name=name, init=file or "timm", drop_path=0.0)
    try:
        backbone = build_backbone(model, crop_px, world.device)
        load_init(model, backbone)
    except UserError as error:
        raise UserError(f"--backbone is {given}: {error}") from error
    network = nn.Sequential(_Normalised(own.mean, own.std), backbone).to(world.device)
    weights = _digest(network)
    world.check_equal(f"--backbone is {given}", weights)
    key = f"timm:{name}"
    return _network(key, name, network, crop_px, config, cache, world, weights=weights)


class _Normalised(nn.Module):
    """A layer that changes images from ImageNet's normalisation to another normalisation."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        given_mean, given_std, own_mean, own_std = (
            torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)
            for values in (RGB_MEAN, RGB_STD, [255 * m for m in mean], [255 * s for s in std])
        )
        self.register_buffer("scale", given_std / own_std)
        self.register_buffer("shift", (given_mean - own_mean) / own_std)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


def _digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(key.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()
