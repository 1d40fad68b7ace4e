"""What makes features of images: the teacher of a run, its start, raw pixels, timm, a file.

Legend: N images, d width of their features, G side of a view in pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn

from dali_pipes.batch import RGB_MEAN, RGB_STD, ViewSpec
from dali_pipes.eval_loader import EvalLoader, ImageSource
from eval.config import ScoreConfig
from eval.embed import embed, pixel_features
from shards.cli import UserError
from train.backbone import build_backbone, check_name
from train.checkpoint import LoadedTeacher
from train.config import ModelConfig, RunConfig
from train.model import untrained_backbone
from train.pretrained import load_init

TEACHER, UNTRAINED, PIXEL = "teacher", "untrained", "pixel"
LABELS = {PIXEL: "pixel cosine", UNTRAINED: "untrained network", TEACHER: "trained teacher"}


@dataclass(frozen=True)
class Features:
    """One way to make features: a row of the table."""

    key: str
    """In results.json: teacher, untrained, pixel, timm:NAME or npz:NAME."""
    label: str
    """What a reader sees."""
    of: Callable[[str, ImageSource, range], Tensor]
    """Name of a set, the set, N consecutive ids -> float32 [N, d] on the device of the scoring."""
    depends_on: dict[str, str | int] = field(default_factory=dict)
    """What the features depend on besides the images; empty: as quick to make as to read."""


def all_features(
    config: ScoreConfig, teacher: LoadedTeacher | None, device: torch.device
) -> Iterator[Features]:
    """What the command asks for, in the order of the table's rows; the teacher comes last.

    One network is made at a time.

    Raises:
        UserError: a network or a file cannot be had; names the option.
    """
    if config.baselines:
        yield _pixels(device)
    if config.baselines and teacher is not None:
        network = untrained_backbone(teacher.config, device)
        crop_px = teacher.config.views.global_px
        yield _of_network(UNTRAINED, LABELS[UNTRAINED], network, crop_px, config, device)
    for name in config.backbone:
        yield _of_timm(name, config, device)
    for path in config.features:
        yield _of_file(path, device)
    if teacher is not None:
        yield _of_network(
            TEACHER,
            LABELS[TEACHER],
            teacher.backbone,
            teacher.config.views.global_px,
            config,
            device,
            weights=teacher.sha256,
        )


def _pixels(device: torch.device) -> Features:
    return Features(
        PIXEL, LABELS[PIXEL], lambda _, images, ids: pixel_features(images, ids).to(device)
    )


def _of_network(
    key: str,
    label: str,
    network: nn.Module,
    crop_px: int,
    config: ScoreConfig,
    device: torch.device,
    *,
    weights: str = "",
) -> Features:
    """Features of a network of views of `crop_px`; `weights` is the digest of what it is."""

    def features(_: str, images: ImageSource, ids: range) -> Tensor:
        loader = EvalLoader(images, crop_px, config.batch, device, config.num_threads, ids)
        return embed(network, loader, device, config.precision, ids=ids)

    depends_on: dict[str, str | int] = {
        "weights": weights or _digest(network),
        "crop_px": crop_px,
        "precision": config.precision,
        "device": device.type,
        "torch": torch.__version__,
        "timm": timm.__version__,
    }
    return Features(key, label, features, depends_on)


def _of_timm(given: str, config: ScoreConfig, device: torch.device) -> Features:
    """`timm:NAME`, with the weights that timm has for it, or `timm:NAME@FILE` with those of a file.

    Views have the size and the normalisation of the network's own configuration.
    """
    name, _, file = given.removeprefix("timm:").partition("@")
    check_name(name, f"--backbone is {given}")
    own = timm.get_pretrained_cfg(name)
    if own is None:
        raise UserError(f"--backbone is {given}, of which timm does not know the size of its views")
    crop_px = own.input_size[-1]
    model = ModelConfig(name=name, init=file or "timm", drop_path=0.0)
    described = RunConfig(
        in_dist=Path(), out=Path(), model=model, views=ViewSpec(global_px=crop_px)
    )
    try:
        backbone = build_backbone(described, device)
        load_init(model, backbone)
    except UserError as error:
        raise UserError(f"--backbone is {given}: {error}") from error
    network = nn.Sequential(_Normalised(own.mean, own.std), backbone).to(device)
    return _of_network(f"timm:{name}", name, network, crop_px, config, device)


class _Normalised(nn.Module):
    """Images that were normalised with ImageNet's statistics, as a network with others wants."""

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


def _of_file(path: Path, device: torch.device) -> Features:
    """The arrays of an .npz, one a set, by the names of the sets."""
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise UserError(f"--features {path}: cannot be read as .npz ({error})") from error

    def features(name: str, images: ImageSource, ids: range) -> Tensor:
        if name not in arrays:
            held = ", ".join(sorted(arrays)) or "nothing"
            raise UserError(f"--features {path}: has no array {name!r}; it has {held}")
        array = arrays[name]
        if array.ndim != 2 or len(array) != len(images) or array.dtype.kind != "f":
            raise UserError(
                f"--features {path}: {name} is {array.dtype} {list(array.shape)}, expected floats "
                f"[{len(images)}, d], a row for each image of the set"
            )
        return torch.from_numpy(array[ids.start : ids.stop].astype(np.float32)).to(device)

    return Features(f"npz:{path.stem}", path.stem, features)


def _digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(key.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()
