"""The architecture, enforced: shards <- dali_pipes <- train <- eval, and who may name DALI."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ["shards", "dali_pipes", "train", "eval"]
FILES = [path for folder in ORDER for path in (ROOT / folder).rglob("*.py")]


DALI_CHECK = ROOT / "shards" / "building" / "dali_check.py"
"""Asks DALI what it can decode; imports it when it is called."""


def imported_modules(path: Path) -> list[str]:
    modules = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules.append(node.module or "")
    return modules


def folder_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_its_left(path: Path) -> None:
    allowed = ORDER[: ORDER.index(folder_of(path)) + 1]
    for module in imported_modules(path):
        top = module.split(".")[0]
        assert top not in ("tests", "benchmarks"), module
        assert top not in ORDER or top in allowed, module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_dali_pipes_names_dali_and_shards_names_no_torch(path: Path) -> None:
    modules = imported_modules(path)
    if folder_of(path) != "dali_pipes" and path != DALI_CHECK:
        assert not [module for module in modules if module.startswith("nvidia")]
    if folder_of(path) == "shards":
        assert not [module for module in modules if module.split(".")[0] in ("torch", "timm")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pickle_is_read(path: Path) -> None:
    text = path.read_text()
    if path == ROOT / "train" / "networks" / "pretrained.py":
        return  # test_pretrained.py: it calls torch.load, for tensors alone, and nothing else does
    if path == ROOT / "shards" / "sources" / "cifar.py":
        # CIFAR's files are pickles; here a class that lets no code run is derived, nothing else.
        assert "from pickle" not in text
        assert set(re.findall(r"pickle\.\w+.*", text)) == {"pickle.Unpickler):"}
    else:
        assert "pickle" not in {module.split(".")[0] for module in imported_modules(path)}
    assert "torch.load(" not in text
    assert "allow_pickle=True" not in text


def test_eval_is_never_bound_over_the_builtin() -> None:
    for path in [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert all(alias.name.split(".")[0] != "eval" for alias in node.names), path


def test_the_packages_import_without_dali() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['nvidia'] = sys.modules['nvidia.dali'] = None\n"
        "import dali_pipes.loader, dali_pipes.negatives, dali_pipes.product.engine\n"
        "import train.recipes, train.checkpoint"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_sets_are_built_without_dali(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['nvidia'] = sys.modules['nvidia.dali'] = None\n"
        "from shards import build\n"
        "build.main(sys.argv[1:])"
    )
    arguments = ["--source", "idx", "--src", "shards/sample", "--size-px", "28"]
    command = [sys.executable, "-c", code, *arguments, "--out", str(tmp_path / "set")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
