"""The folder of a run: config.json, command.json, and the check whose folder it is."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dali_pipes.batch import ViewSpec
from dali_pipes.config import LoaderConfig
from shards.disk.locks import LOCK_FILE_NAME, LOCK_WAIT_S, locked
from shards.disk.publish import replace_file
from shards.errors import UserError
from train.config import CompatConfig, HeadConfig, LossConfig, ModelConfig, OptimConfig, RunConfig

if TYPE_CHECKING:
    from train.world import World  # imports torch, which reading a configuration does not need

CONFIG = "config.json"
COMMAND = "command.json"
OLD_PARTIAL = "config.partial"
"""The file that a killed start of an older version may have left."""

MACHINE_FIELDS = frozenset(
    {"out", "in_dist", "aux", "in_dist_test", "device", "loader.resident_gb", "loader.threads"}
)
"""Fields that may differ between the ranks of a run: what a machine has, and where."""
# Fields that may differ between a run and its continuation: they do not change what is computed,
# but for the rounding of another device.
FREE_FIELDS = frozenset(
    MACHINE_FIELDS
    | {"log_steps", "checkpoint_steps", "keep_checkpoints", "dry_run", "skips_in_a_row", "stall_s"}
    | {"model.recompute"}
    # The engine is compared as it was chosen, by the loader itself; so is the number of ranks.
    | {"loader.engine", "loader.reader", "elastic"}
)
ELASTIC_FIELDS = frozenset({"micro_batch", "compile"})
"""Fields that change the order of sums only."""


def to_fields(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    return _plain(dataclasses.asdict(config))


def from_fields(fields: dict[str, Any]) -> RunConfig:
    """The inverse of `to_fields`."""
    return _build(RunConfig, fields)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


_PARTS = {
    "views": ViewSpec,
    "loader": LoaderConfig,
    "model": ModelConfig,
    "head": HeadConfig,
    "loss": LossConfig,
    "optim": OptimConfig,
    "compat": CompatConfig,
}


def _build(kind: Any, fields: dict[str, Any]) -> Any:
    values = {}
    known = {field.name for field in dataclasses.fields(kind)}
    for name in fields:
        if name not in known:
            raise UserError(
                f"{name} is no field of a run: another version of oodino wrote this one"
            )
    for name, value in fields.items():
        if name in _PARTS:
            value = _build(_PARTS[name], value)
        elif name in ("in_dist", "out", "aux", "in_dist_test") and value is not None:
            value = Path(value)
        elif isinstance(value, list):
            value = tuple(value)
        values[name] = value
    return kind(**values)


def first_difference(ours: RunConfig, theirs: RunConfig) -> str | None:
    """Name both values of the first field that makes two runs different ones; None if none does."""
    for name, here, there in _differences(to_fields(ours), to_fields(theirs)):
        if name in FREE_FIELDS or (name in ELASTIC_FIELDS and ours.elastic):
            continue
        hint = " (allow it with --elastic)" if name in ELASTIC_FIELDS else ""
        return f"{name} is {here!r} now and {there!r} there{hint}"
    return None


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of each field that differs; one that is not there is None."""
    here, there = _flat(ours), _flat(theirs)
    for name in {**here, **there}:
        if here.get(name) != there.get(name):
            yield name, here.get(name), there.get(name)


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def read_config(run: Path) -> RunConfig:
    """The configuration of a run that is there.

    Raises:
        UserError: it cannot be read as one.
    """
    path = run / CONFIG
    try:
        return from_fields(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not the configuration of a run: {error}") from error


def check_run(config: RunConfig) -> None:
    """Refuse a folder that is not this run's; nothing is written.

    Raises:
        UserError: the folder holds another run, or something that is not a run.
    """
    if (config.out / CONFIG).is_file():
        difference = first_difference(config, read_config(config.out))
        if difference:
            raise UserError(f"{config.out} holds another run: {difference}; choose another --out")
    elif config.out.exists() and not _is_empty(config.out):
        raise UserError(f"{config.out} is there and is not a run; choose another --out")


def check_ranks(config: RunConfig, world: World) -> None:
    """Refuse ranks that were started with other fields than rank 0; every rank must call it.

    Raises:
        UserError: on every rank, if one differs; there it names the field and both values.
    """
    main_fields = json.loads(world.from_main(json.dumps(to_fields(config))))
    told = [
        f"{name} is {here!r} on rank {world.rank} and {there!r} on rank 0"
        for name, here, there in _differences(to_fields(config), main_fields)
        if name not in MACHINE_FIELDS
    ]
    if not world.everywhere(not told):
        difference = told[0] if told else "another rank has other fields than rank 0"
        raise UserError(f"{difference}; start all ranks with the same command")


def start_run(config: RunConfig) -> None:
    """Write the run's configuration into its folder, if it is new; it is on the disk then."""
    path = config.out / CONFIG
    (config.out / OLD_PARTIAL).unlink(missing_ok=True)
    if not path.exists():
        replace_file(path, [(json.dumps(to_fields(config), indent=1) + "\n").encode()])


def write_command(out: Path, words: Sequence[str]) -> None:
    """Write the words of the shell command that trains a run into its folder."""
    replace_file(out / COMMAND, [(json.dumps({"command": list(words)}, indent=1) + "\n").encode()])


def training_command(run: Path) -> str | None:
    """Return the shell command that trained a run, or None if its folder has none that is whole.

    Bytes of file names that are not UTF-8 become replacement characters.
    """
    try:
        command = shlex.join(json.loads((run / COMMAND).read_bytes())["command"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return command.encode(errors="surrogateescape").decode(errors="replace")


def locked_run(out: Path, wait_s: float = LOCK_WAIT_S) -> contextlib.AbstractContextManager[None]:
    """Have the run's folder for oneself.

    Raises:
        UserError: on entry: another process trains this run, and still does after `wait_s` seconds.
    """
    return locked(out, f"{out} is being trained", wait_s)


def _is_empty(path: Path) -> bool:
    """True if a folder holds no more than a killed start leaves."""
    left = {LOCK_FILE_NAME, OLD_PARTIAL, *(p.name for p in path.glob(f".{CONFIG}.partial-*"))}
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= left
