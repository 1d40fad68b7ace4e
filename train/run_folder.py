"""The folder of a run: config.json, command.json, its lock, and a check that it holds this run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.disk.locks import LOCK_FILE_NAME, LOCK_WAIT_S, locked
from shards.disk.publish import replace_file
from shards.errors import UserError
from shards.json_types import from_json
from train.config import RunConfig

if TYPE_CHECKING:
    from train.world import World  # imports torch, which reading a configuration does not need

CONFIG = "config.json"
COMMAND = "command.json"
README = "README.md"
OLD_PARTIAL = "config.partial"
"""The file that a killed start of an older version may have left."""

MACHINE_FIELDS = frozenset(
    {"out", "in_dist", "aux", "in_dist_test", "device", "loader.resident_gb", "loader.threads"}
)
"""Fields that may differ between the ranks of a run: folders, devices and memory of a machine."""
FREE_FIELDS = frozenset(
    MACHINE_FIELDS
    | {"log_steps", "checkpoint_steps", "keep_checkpoints", "dry_run", "skips_in_a_row", "stall_s"}
    | {"model.recompute"}
    # The loader itself compares the engine that was chosen, and the number of ranks.
    | {"loader.engine", "loader.reader", "elastic"}
)
"""Fields that may differ when a run is resumed: they do not change what is computed, except for the
rounding of another device."""
ELASTIC_FIELDS = frozenset({"micro_batch", "compile"})
"""Fields that change only the order of sums; they may differ with `--elastic`."""


def to_fields(config: RunConfig) -> dict[str, Any]:
    """Return the configuration as JSON values, with one dictionary per dataclass."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def from_fields(fields: dict[str, Any]) -> RunConfig:
    """Return the configuration whose JSON values are `fields`: the inverse of `to_fields`.

    Raises:
        UserError: a field does not exist in this version of oodino.
    """
    try:
        return from_json(RunConfig, fields)
    except KeyError as error:
        fault = f"{error.args[0]} is no field of a run: another version of oodino wrote it"
        raise UserError(fault) from None


def first_difference(ours: RunConfig, theirs: RunConfig) -> str | None:
    """Describe the first difference that makes two configurations different runs.

    Return None if there is no such difference.
    """
    for name, here, there in _differences(to_fields(ours), to_fields(theirs)):
        if name in FREE_FIELDS or (name in ELASTIC_FIELDS and ours.elastic):
            continue
        hint = " (allow it with --elastic)" if name in ELASTIC_FIELDS else ""
        return f"{name} is {here!r} now and {there!r} there{hint}"
    return None


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield name and both values of each field that differs. None stands for a missing value."""
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
    """Read the configuration in the folder of a run.

    Raises:
        UserError: the file is not the configuration of a run.
        OSError: the file is missing or cannot be read.
    """
    path = run / CONFIG
    try:
        return from_fields(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not the configuration of a run: {error}") from error


def check_run(config: RunConfig) -> None:
    """Check that `config.out` is empty or holds this run; nothing is written.

    Raises:
        UserError: the folder holds another run, or something that is not a run.
    """
    if (config.out / CONFIG).is_file():
        difference = first_difference(config, read_config(config.out))
        if difference:
            raise UserError(f"{config.out} holds another run: {difference}; choose another --out")
    elif config.out.exists() and not _is_empty(config.out):
        raise UserError(f"{config.out} exists and is not a run; choose another --out")


def check_ranks(config: RunConfig, world: World) -> None:
    """Check that all ranks have the configuration of rank 0. Every rank must call this function.

    Raises:
        UserError: on every rank, if one rank differs; that rank names the field and both values.
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
    """Write config.json of a new run and wait until it is on the disk."""
    path = config.out / CONFIG
    (config.out / OLD_PARTIAL).unlink(missing_ok=True)
    if not path.exists():
        replace_file(path, [(json.dumps(to_fields(config), indent=1) + "\n").encode()])


def write_command(out: Path, words: Sequence[str]) -> None:
    """Write command.json: the words of the shell command that started the training of a run.

    Args:
        out: folder of the run.
        words: the command, divided into words.
    """
    replace_file(out / COMMAND, [(json.dumps({"command": list(words)}, indent=1) + "\n").encode()])


def training_command(run: Path) -> str | None:
    """Return the shell command that trained a run. None if the file is missing or damaged.

    Bytes of file names that are not UTF-8 become replacement characters.
    """
    try:
        command = shlex.join(json.loads((run / COMMAND).read_bytes())["command"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return command.encode(errors="surrogateescape").decode(errors="replace")


def locked_run(out: Path, wait_s: float = LOCK_WAIT_S) -> contextlib.AbstractContextManager[None]:
    """Lock the folder of a run for this process.

    Raises:
        UserError: on entry, if another process still trains this run after `wait_s` seconds.
    """
    return locked(out, f"{out} is being trained", wait_s)


def _is_empty(path: Path) -> bool:
    """Return True if a folder holds nothing except files that a killed start may have left."""
    left = {LOCK_FILE_NAME, OLD_PARTIAL, *(p.name for p in path.glob(f".{CONFIG}.partial-*"))}
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= left
