"""What a run is: one frozen dataclass, which every recipe fills and every command can override.

K, lambda and the temperatures of the paper are tuned for 50,000 and more images; on small sets they
stay at the uniform solution (loss near ln K). See the recipe `demo-cpu` for values that suit those.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dali_pipes.batch import ViewSpec
from dali_pipes.config import LoaderConfig
from dali_pipes.negatives import parse_negatives
from shards.errors import UserError


@dataclass(frozen=True)
class ModelConfig:
    """The backbone: a ViT (defaults: ViT-S/16; paper, section 4), or any network of timm."""

    name: str = "vit"
    """vit = a ViT of the sizes below; else a name of timm's (resnet18), which has its own: leave
    patch_px, width, depth and heads at their defaults then."""
    patch_px: int = 16
    """Side of a patch, in pixels; must divide both view sizes."""
    width: int = 384
    """Embedding size d, the length of the feature that is scored."""
    depth: int = 12
    """Transformer blocks."""
    heads: int = 6
    """Attention heads."""
    drop_path: float = 0.1
    """Stochastic depth of the student; the teacher has none. Networks that are no plain ViTs draw
    it by themselves, if timm has it for them."""
    init: str = ""
    """Weights that both backbones start from: a file (safetensors of timm's names or of a run's
    checkpoint; .pth of DINO), timm:NAME, which timm downloads, or timm, for those of name; empty =
    drawn by the seed, as the heads always are. Read when a run starts anew, and for the baseline
    `untrained` of an evaluation. A file does not show its heads: they have to be as they were."""
    recompute: bool = False
    """Whether blocks are computed again in the backward pass and not kept: less memory, a third
    more time, the same result."""


@dataclass(frozen=True)
class HeadConfig:
    """DINO's projection head g (paper, section 3.1; DINO's code)."""

    prototypes: int = 4096
    """K, the number of soft classes (paper, section 4)."""
    layers: int = 3
    """Linear layers of the MLP before the bottleneck is normalised."""
    hidden: int = 2048
    """Width of the MLP."""
    bottleneck: int = 256
    """Width of the normalised vector that meets the prototypes."""
    norm_last_layer: bool = False
    """Whether the prototypes have unit length (else their lengths are learned)."""


@dataclass(frozen=True)
class LossConfig:
    """L = L_pos + lambda L_neg (paper, Eq. 3-5)."""

    norm: Literal["mean", "sum"] = "mean"
    """Over pairs of views in L_pos and over views in L_neg: mean, as in the authors' code, or sum,
    as in Eq. 3 and 4; over the batch it is a mean always."""
    negative_weight: float = 1.0
    """lambda of Eq. 5 (paper: 1); unused without negatives."""
    negative_warmup_epochs: float = 0
    """Epochs over which lambda rises from 0: on small data the uniform response to negatives is
    learned before anything else and spreads to the positives."""
    negative_adaptive: bool = False
    """Whether lambda is also multiplied by 1 - L_pos / ln K (running mean, pair mean): no push to
    the uniform response while the positives are there too."""
    student_temp: float = 0.1
    """tau_s (paper, section 4)."""
    teacher_temp_start: float = 0.055
    """tau_t of the first epoch."""
    teacher_temp_end: float = 0.01
    """tau_t of the last epoch; linear in between, constant within an epoch."""
    centre_momentum: float = 0.9
    """Of the running mean of the teacher's output that is subtracted from it."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and what is scheduled with it (per step, cosine)."""

    impl: Literal["fused", "apex"] = "fused"
    """torch's fused AdamW, or NVIDIA apex's FusedAdam where that is installed (CUDA only)."""
    lr_base: float = 0.004
    """Peak learning rate at a global batch of 256; scales linearly with the batch."""
    lr_end: float = 1e-6
    """Learning rate at the end."""
    warmup_epochs: float = 30
    """Epochs over which the learning rate rises from 0."""
    weight_decay_start: float = 0.04
    weight_decay_end: float = 0.4
    """Cosine from start to end; biases and 1-D parameters have none."""
    clip_norm: float = 3.0
    """Largest gradient norm of EACH parameter; 0 = no clipping."""
    freeze_last_layer_epochs: float = 1
    """Epochs during which the prototypes do not learn."""
    ema_momentum_start: float = 0.996
    """m of Eq. 2 at the start; 1 at the end."""


@dataclass(frozen=True)
class CompatConfig:
    """Quirks of the authors' public code that may have shaped its figures (docs/training.md).

    All are off by default; the recipe `icann22-code-cifar10` has them on.
    """

    centre_first_rows: bool = False
    """The centre follows the teacher's output for the first two images of the first global view of
    each rank, instead of all images of both."""
    aux_replayed: bool = False
    """Each pass over the in-distribution set sees the same auxiliary images in the same order; an
    auxiliary set that is smaller comes again in that order, its last incomplete batch left out."""
    loss_x1_5: bool = False
    """With one negative source the loss is 1.5 (L_pos + lambda L_neg)."""
    rot_any: bool = False
    """`rot90x4` (0 to 270 degrees in the paper) means `rot-any`: any angle, black corners."""
    rot_any_early: bool = False
    """`rot-any` means `rot-any-early`: the resized crop is turned, so that its corners are black
    before the view's colours change and it is blurred, instead of the finished view."""
    dino_positions: bool = False
    """The ViT's position grid is resized for local views as by DINO's code: bicubic without
    antialiasing, to (grid + 0.1) of the places, instead of antialiased as timm does."""
    dino_class_token: bool = False
    """The ViT's class token starts with a deviation of 0.02, as in DINO's code, not of 1e-6."""


@dataclass(frozen=True)
class RunConfig:
    """A training run."""

    in_dist: Path
    """Folder of in-distribution training shards."""
    out: Path
    """Folder of the run: config.json, metrics.jsonl, TensorBoard events, checkpoints/,
    and at the end README.md with curves.png. A run that
    is already there and has the same configuration is resumed."""
    aux: Path | None = None
    """Folder of auxiliary shards, at the same image size; for negatives that are made of them."""
    in_dist_test: Path | None = None
    """Folder of in-distribution test shards by which the run will be scored: it does not begin if
    they share images with what it trains on."""
    negatives: str = "rot"
    """none (DINO) | aux | rot (aux turned) | rot-in (in-dist turned) | combined (rot-in+rot) |
    rot90x4, rot-any, rot-any-early, perm-4, perm-16, pixperm, cutperm, blur, each also with -in |
    mixes of these: `rot-in+pixperm` has both, `2*rot-in|pixperm` one of them for each image, by
    weight."""
    epochs: int = 500
    """Passes over the in-distribution set."""
    global_batch: int = 256
    """Images a step over all ranks."""
    seed: int = 0
    """Of the weights, the order of samples and every draw."""
    micro_batch: int = 0
    """Images of a forward and backward pass on a rank, which sums the gradients of as many as its
    batch has; 0 = all at once. Less memory, the same result."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Autocast of the networks; head output, loss, centre and EMA are float32 always."""
    compile: bool = False
    """Whether torch.compile makes the student's kernels; the first steps take minutes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto = CUDA when there is a GPU."""
    elastic: bool = False
    """Whether the run may go on with another number of ranks or micro-batch than it had: the same
    images and views a step, but sums in another order, so no longer bit for bit."""
    dry_run: bool = False
    """Print the configuration, the number of steps, and the memory and time that they would take
    (measured on a few); write nothing."""
    log_steps: int = 50
    """Steps between two reports."""
    checkpoint_steps: int = 1000
    """Steps between two checkpoints; the last step always has one."""
    keep_checkpoints: int = 2
    """Newest checkpoints that are kept."""
    skips_in_a_row: int = 5
    """Steps that may be skipped one after another because something in them is not finite; one
    more ends the run."""
    stall_s: float = 120
    """Seconds after which a rank that does not move is named and ends the run."""
    views: ViewSpec = field(default_factory=ViewSpec)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    compat: CompatConfig = field(default_factory=CompatConfig)

    @property
    def strategy(self) -> str:
        """The negatives that are made, quirks included."""
        made = self.negatives
        if self.compat.rot_any:
            made = made.replace("rot90x4", "rot-any")
        if self.compat.rot_any_early:
            made = re.sub("rot-any(?!-early)", "rot-any-early", made)
        return made

    def check(self) -> None:
        """Refuse a configuration that cannot run.

        Raises:
            UserError: names the field and its value.
        """
        self.views.check()
        self.loader.check()
        parse_negatives(self.strategy)
        for names, accepts, expected in RANGES:
            for name in names.split():
                value = operator.attrgetter(name)(self)
                if not accepts(value):
                    raise UserError(f"{name} is {value}, expected {expected}")
        if self.model.name == "vit":
            self._check_vit()
        else:
            self._check_is_not_dinos()
            self._check_sizes_are_left()
        if self.elastic and self.compat.centre_first_rows:
            raise UserError(
                "elastic is on, but compat.centre_first_rows takes rows of each rank's batch, so "
                "that another number of ranks would move the centre elsewhere; leave one of them"
            )
        if self.optim.warmup_epochs >= self.epochs:
            raise UserError(
                f"optim.warmup_epochs is {self.optim.warmup_epochs}, expected less than epochs "
                f"{self.epochs}"
            )

    def _check_vit(self) -> None:
        for name in ("global_px", "local_px"):
            side_px = getattr(self.views, name)
            if side_px % self.model.patch_px:
                raise UserError(
                    f"views.{name} is {side_px}, not a multiple of model.patch_px "
                    f"{self.model.patch_px}"
                )
        if self.model.width % self.model.heads:
            raise UserError(
                f"model.width is {self.model.width}, not a multiple of model.heads "
                f"{self.model.heads}"
            )

    def _check_is_not_dinos(self) -> None:
        """The switches that make a ViT DINO's are for the ViT of these sizes alone."""
        names = [n for n in ("dino_positions", "dino_class_token") if getattr(self.compat, n)]
        if names:
            told = ", ".join(f"compat.{name} is on" for name in names)
            options = " ".join(f"--compat.no-{name.replace('_', '-')}" for name in names)
            raise UserError(
                f"{told}, which model.name vit alone has, and model.name is {self.model.name}; "
                f"set {options}"
            )

    def _check_sizes_are_left(self) -> None:
        """A network by name has sizes of its own, so that others than the defaults mean nothing."""
        usual = ModelConfig()
        changed = [
            name
            for name in ("patch_px", "width", "depth", "heads")
            if getattr(self.model, name) != getattr(usual, name)
        ]
        if changed:
            told = ", ".join(f"model.{name} is {getattr(self.model, name)}" for name in changed)
            options = " ".join(
                f"--model.{name.replace('_', '-')} {getattr(usual, name)}" for name in changed
            )
            raise UserError(
                f"{told}, but model.name {self.model.name} has sizes of its own; leave them at "
                f"{options}"
            )


RANGES = (
    (
        "epochs global_batch log_steps checkpoint_steps keep_checkpoints skips_in_a_row stall_s "
        "model.patch_px model.width model.depth model.heads head.hidden head.bottleneck "
        "head.layers loss.student_temp loss.teacher_temp_start "
        "loss.teacher_temp_end",
        lambda value: 0 < value < math.inf,
        "more than 0",
    ),
    (
        "seed micro_batch loss.negative_weight loss.negative_warmup_epochs optim.lr_base "
        "optim.lr_end optim.warmup_epochs optim.weight_decay_start optim.weight_decay_end "
        "optim.clip_norm optim.freeze_last_layer_epochs",
        lambda value: 0 <= value < math.inf,
        "at least 0",
    ),
    (
        "loss.centre_momentum optim.ema_momentum_start",
        lambda value: 0 <= value <= 1,
        "0..1",
    ),
    ("head.prototypes", lambda value: value > 1, "at least 2"),
    ("seed", lambda value: value < 1 << 63, "less than 2^63"),
    ("model.drop_path", lambda value: 0 <= value < 1, "0..1, less than 1"),
)
"""Fields, what they may be, and how that is told."""
