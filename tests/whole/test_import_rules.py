"""The architecture, enforced: folders, the rooms in each, and who may name DALI, torch or pickle.

A room is a folder below one of the four, or a file that lies directly in one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.commands import run_job
from tests.support.paths import ROOT

ROOMS = {
    "shards": "errors json_types terminal disk pixels manifest manifest_file format verify reader "
    "random_streams order set_sheet sources similarity building protocols build sets info overlap "
    "sample",
    "dali_pipes": "batch config transfer blur normalised batch_memory shifts view_params negatives "
    "step_plan readers product dali loader eval_loader view_sheets preview parity",
    "train": "launch world config config_checks recipes metrics networks losses ema schedules "
    "optim loss_scale state objective step run_folder checkpoint teacher test_set watch reports "
    "training preview main",
    "eval": "config versions intervals metrics sets outliers features scores ensemble decisions "
    "audits results report detector score_images score_sets score spoil exported onnx_export "
    "export compare",
}
"""Folders from left to right, and the rooms of each: a file imports only from what stands before
its own folder or room, or in the same one."""
FILES = [path for folder in ROOMS for path in sorted((ROOT / folder).rglob("*.py"))]
DALI_CHECK = "shards/building/dali_check.py"
"""Asks DALI what it can decode; imports it when it is called."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imported_modules(path: Path) -> list[str]:
    """Modules, and names in them that may be modules."""
    modules = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
    return modules


def file_of(module: str) -> Path | None:
    """The file of a module of the project, or of the module that has this name in it."""
    parts = module.split(".")
    if parts[0] not in ROOMS:
        return None
    for base in (ROOT.joinpath(*parts), ROOT.joinpath(*parts[:-1])):
        if base.with_suffix(".py").is_file():
            return base.with_suffix(".py")
        if base.is_dir():
            return base / "__init__.py"
    raise AssertionError(f"no such module: {module}")


def room_of(path: Path) -> tuple[str, str]:
    folder, room, *_ = path.relative_to(ROOT).with_suffix("").parts
    return folder, room


@pytest.mark.slow
@pytest.mark.parametrize("folder", ROOMS)
def test_a_file_imports_only_from_the_rooms_before_its_own(folder: str) -> None:
    order = [(folder, room) for folder in ROOMS for room in ROOMS[folder].split()]
    rooms = {room for room in map(room_of, FILES) if room[1] != "__init__"}
    assert rooms == set(order), "ROOMS does not list what is there"
    for path in FILES:
        if room_of(path)[0] != folder or path == ROOT / folder / "__init__.py":
            continue
        allowed = order[: order.index(room_of(path)) + 1]
        for module in imported_modules(path):
            assert module.split(".")[0] not in ("tests", "benchmarks"), (name_of(path), module)
            target = file_of(module)
            assert target is None or room_of(target) in allowed, (name_of(path), module)


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {
        path: {target for module in imported_modules(path) if (target := file_of(module))} - {path}
        for path in FILES
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(FILES)  # or it raises


def test_packages_have_no_code_of_their_own() -> None:
    for path in FILES:
        if path.name == "__init__.py":
            assert len(ast.parse(path.read_text()).body) == 1, name_of(path)


def test_only_dali_pipes_names_dali_and_shards_names_no_torch() -> None:
    for path in FILES:
        tops = {module.split(".")[0] for module in imported_modules(path)}
        if room_of(path)[0] != "dali_pipes" and name_of(path) != DALI_CHECK:
            assert "nvidia" not in tops, name_of(path)
        if room_of(path)[0] == "shards":
            assert not tops & {"torch", "timm"}, name_of(path)


def test_no_pickle_is_read() -> None:
    for path in FILES:
        text, name = path.read_text(), name_of(path)
        if name == "train/networks/pretrained.py":
            continue  # It calls torch.load, for tensors alone (test_pretrained.py).
        if name == "shards/sources/cifar.py":
            # CIFAR's files are pickles; a class that lets no code run is derived, nothing else.
            assert "from pickle" not in text
            assert set(re.findall(r"pickle\.\w+.*", text)) == {"pickle.Unpickler):"}
        else:
            assert "pickle" not in {module.split(".")[0] for module in imported_modules(path)}, name
        assert "torch.load(" not in text, name
        assert "allow_pickle=True" not in text, name


@pytest.mark.slow
def test_eval_is_never_bound_over_the_builtin() -> None:
    for path in [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert all(alias.name.split(".")[0] != "eval" for alias in node.names), path


def test_every_folder_with_code_is_packaged() -> None:
    listed = (ROOT / "setup.py").read_text()
    for path in FILES:
        assert f'"{".".join(path.parent.relative_to(ROOT).parts)}",' in listed, name_of(path)


@pytest.mark.slow
def test_the_packages_import_without_dali() -> None:
    """The fork server imports them while DALI cannot be imported."""
    ended = run_job(f"{__name__}:assert_imported_without_dali")
    assert ended.returncode == 0, ended.stderr


def assert_imported_without_dali(_: object) -> None:
    assert {"dali_pipes.loader", "dali_pipes.product.engine", "train.training"} <= {*sys.modules}
    assert "nvidia.dali" not in sys.modules


@pytest.mark.slow
def test_sets_are_built_without_dali(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['nvidia'] = sys.modules['nvidia.dali'] = None\n"
        "from shards import build\n"
        "build.main(sys.argv[1:])"
    )
    arguments = ["--source", "idx", "--src", "shards/sample", "--size-px", "28"]
    command = [sys.executable, "-c", code, *arguments, "--out", str(tmp_path / "set")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
