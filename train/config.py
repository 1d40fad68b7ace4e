"""The configuration of a run: one frozen dataclass that recipes fill and options override.

The docstring under a field is its help text. The paper's K, lambda and temperatures are tuned for
50,000 images and more. On small sets they stay at the uniform solution (a loss near ln K); the
recipe `demo-cpu` has values for small sets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dali_pipes.batch import ViewSpec
from dali_pipes.config import LoaderConfig


@dataclass(frozen=True)
class ModelConfig:
    """The backbone: a ViT (by default ViT-S/16; paper, section 4), or any network of timm."""

    name: str = "vit"
    """vit = a ViT with the sizes below. Any other name is the name of a network of timm, for
    example resnet18. A network of timm has its own sizes: leave patch_px, width, depth and heads at
    their defaults."""
    patch_px: int = 16
    """Side of a patch, in pixels. Both view sizes must be multiples of it."""
    width: int = 384
    """Embedding size d: the length of the feature that is scored."""
    depth: int = 12
    """Number of transformer blocks."""
    heads: int = 6
    """Number of attention heads."""
    drop_path: float = 0.1
    """Rate of stochastic depth in the student; the teacher has none. Networks that are no plain
    ViTs use timm's own implementation, if timm has one for them."""
    init: str = ""
    """Initial weights of the backbones of student and teacher: a file (safetensors with timm's
    names, safetensors of a run's checkpoint, or .pth of DINO), or timm:NAME (downloaded by timm),
    or timm (the weights of the network that model.name names). Empty = random weights, drawn from
    the seed. The projection heads always start with random weights. The file is read when a run
    starts, and for the baseline `untrained` of an evaluation. A file does not store its number of
    attention heads: set model.heads to the number that it was made with."""
    recompute: bool = False
    """Compute the blocks again in the backward pass instead of storing their activations: less
    memory, a third more time, the same result."""


@dataclass(frozen=True)
class HeadConfig:
    """The projection head of the network g(x), as in DINO's code: feature -> K outputs."""

    prototypes: int = 4096
    """K, the number of soft classes (paper, section 4)."""
    layers: int = 3
    """Number of linear layers of the MLP before the normalised bottleneck."""
    hidden: int = 2048
    """Width of the MLP."""
    bottleneck: int = 256
    """Length of the normalised vector that is compared with the prototypes."""
    norm_last_layer: bool = False
    """Give all prototypes unit length; otherwise their lengths are learned."""


@dataclass(frozen=True)
class LossConfig:
    """The loss L = L_pos + lambda L_neg (paper, Eq. 3-5)."""

    norm: Literal["mean", "sum"] = "mean"
    """Reduction over pairs of views in L_pos and over views in L_neg: mean, as in the authors'
    code, or sum, as in Eq. 3 and 4. The reduction over the batch is always a mean."""
    negative_weight: float = 1.0
    """The weight lambda of the negatives (Eq. 5); 1 in the paper. Unused without negatives."""
    negative_warmup_epochs: float = 0
    """Epochs over which lambda rises from 0. On small data the network learns the uniform response
    to negatives first, and then gives it to positives too; a warm-up helps against that."""
    negative_adaptive: bool = False
    """Multiply lambda by 1 - L_pos / ln K, with a running mean of L_pos. So negatives do not push
    towards the uniform response while the response to positives is uniform."""
    student_temp: float = 0.1
    """The temperature tau_s of the student (paper, section 4)."""
    teacher_temp_start: float = 0.055
    """The temperature tau_t of the teacher in the first epoch."""
    teacher_temp_end: float = 0.01
    """The temperature tau_t of the teacher in the last epoch. tau_t is constant within an epoch and
    linear over the epochs."""
    centre_momentum: float = 0.9
    """Momentum of the centre, which is the running mean of the teacher's output. The centre is
    subtracted from the output."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its schedules, which are cosines over the steps."""

    impl: Literal["fused", "apex"] = "fused"
    """fused = torch's fused AdamW; apex = FusedAdam of NVIDIA apex, if installed (CUDA only)."""
    lr_base: float = 0.004
    """Peak learning rate at a global batch of 256. It is scaled linearly with the batch."""
    lr_end: float = 1e-6
    """Learning rate at the end."""
    warmup_epochs: float = 30
    """Epochs over which the learning rate rises linearly from 0."""
    weight_decay_start: float = 0.04
    """Weight decay at the start; biases and other 1-D parameters have none."""
    weight_decay_end: float = 0.4
    """Weight decay at the end."""
    clip_norm: float = 3.0
    """Largest norm of the gradient of EACH parameter tensor. 0 means no clipping."""
    freeze_last_layer_epochs: float = 1
    """Epochs at the start during which the prototypes do not learn."""
    ema_momentum_start: float = 0.996
    """The momentum m of the teacher (Eq. 2) at the start. It is 1 at the end."""


@dataclass(frozen=True)
class CompatConfig:
    """Differences of the authors' public code from the paper (docs/training.md).

    They may have shaped the paper's figures. All are off by default; the recipe
    `icann22-code-cifar10` has them on.
    """

    centre_first_rows: bool = False
    """Update the centre from the teacher's output for the first two images of the first global view
    on each rank, instead of all images of both global views."""
    aux_replayed: bool = False
    """Show the same auxiliary images in the same order in each pass over the in-distribution set. A
    smaller auxiliary set is repeated in that order, without its last incomplete batch."""
    loss_x1_5: bool = False
    """Multiply the loss L_pos + lambda L_neg by 1.5 if there is one negative branch."""
    rot_any: bool = False
    """Read `rot90x4` (0 to 270 degrees in the paper) as `rot-any`: any angle, black corners."""
    rot_any_early: bool = False
    """Read `rot-any` as `rot-any-early`: rotate the resized crop, before its colours change and
    before it is blurred, instead of the finished view. The black corners then change too."""
    dino_positions: bool = False
    """Resize the ViT's position grid for local views as DINO's code does: bicubic, without
    antialiasing, to a scale of (grid + 0.1), instead of antialiased as in timm."""
    dino_class_token: bool = False
    """Initialise the ViT's class token with a standard deviation of 0.02, as DINO's code does,
    instead of 1e-6."""


@dataclass(frozen=True)
class RunConfig:
    """The configuration of a training run."""

    in_dist: Path
    """Folder of in-distribution training shards."""
    out: Path
    """Folder of the run: config.json, metrics.jsonl, TensorBoard events, checkpoints/, and at the
    end README.md, curves.png and command.json. If it holds a run with the same configuration, that
    run is resumed."""
    aux: Path | None = None
    """Folder of auxiliary shards, for negatives that are made of them. Their images must have the
    size of the in-distribution images."""
    in_dist_test: Path | None = None
    """Folder of the in-distribution test shards that the run will be scored with. The run does not
    start if they share images with its training sets."""
    negatives: str = "rot"
    """none (DINO) | aux | rot (aux rotated) | rot-in (in-dist rotated) | combined (rot-in+rot) |
    rot90x4, rot-any, rot-any-early, perm-4, perm-16, pixperm, cutperm, blur, each also with -in |
    mixes of these: `rot-in+pixperm` makes both, `2*rot-in|pixperm` one of them for each image, by
    weight."""
    epochs: int = 500
    """Passes over the in-distribution set."""
    global_batch: int = 256
    """Images per step, over all ranks. The number of ranks must divide it."""
    seed: int = 0
    """Seed of the initial weights, of the order of samples and of all random draws."""
    micro_batch: int = 0
    """Images per forward and backward pass on a rank. The gradients of a rank's batch are summed
    over its micro-batches: less memory, the same result. 0 = the whole batch at once."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Autocast type of the networks; head output, loss, centre and EMA are always float32."""
    compile: bool = False
    """Compile the student with torch.compile; the first steps then take minutes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto = cuda if there is a GPU, otherwise cpu."""
    elastic: bool = False
    """Allow the run to resume with another number of ranks, micro-batch or value of compile. Each
    step has the same images and views, but sums have another order: the result is not bit for bit
    the same."""
    dry_run: bool = False
    """Print the configuration, the number of steps, and the memory and time of the whole run
    (measured on a few steps); write nothing."""
    log_steps: int = 50
    """Steps between two reports."""
    checkpoint_steps: int = 1000
    """Steps between two checkpoints. The last step always has one."""
    keep_checkpoints: int = 2
    """Number of checkpoints to keep: the newest ones."""
    skips_in_a_row: int = 5
    """Largest number of consecutive steps that may be skipped because something in them is not
    finite; one more ends the run."""
    stall_s: float = 120
    """Seconds that a rank may stay at one step; after that it is named and the run ends."""
    views: ViewSpec = field(default_factory=ViewSpec)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    compat: CompatConfig = field(default_factory=CompatConfig)

    @property
    def strategy(self) -> str:
        """The negatives that the run makes.

        This is the field `negatives`, with the replacements that `compat.rot_any` and
        `compat.rot_any_early` ask for.
        """
        made = self.negatives
        if self.compat.rot_any:
            made = made.replace("rot90x4", "rot-any")
        if self.compat.rot_any_early:
            made = re.sub("rot-any(?!-early)", "rot-any-early", made)
        return made
