"""The commands work as scripts and as modules, from the root and from elsewhere, uninstalled."""

from __future__ import annotations

import functools
import json

import pytest

from tests.support.command_starts import Start
from tests.support.commands import run_anew
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

COMMANDS = {
    "train/main.py": "demo-cpu",
    "train/main.py demo-cpu": "--optim.lr-base",
    "-m train.preview": "demo-cpu",
    "-m train.preview demo-cpu": "--optim.lr-base",
    "eval/score.py": "--in-dist-train",
    "-m eval.score": "--in-dist-train",
    "eval/export.py": "--calibration",
    "-m eval.exported": "FOLDER",
    "-m eval.compare": "--columns",
    "-m eval.spoil": "--in-dist-test",
    "-m shards.build": "--size-px",
    "-m shards.sets": "--protocol",
    "-m shards.verify": "--full",
    "-m shards.overlap": "--exclude-list",
    "-m shards.info": "--sheet",
    "-m shards.sample.remake": "--part",
    "-m dali_pipes.preview": "--negatives",
    "-m dali_pipes.parity": "--draws",
    "-m benchmarks.loader": "--skip-scale",
    "-m benchmarks.step": "--compile",
    "-m benchmarks.scorer": "--tau",
    "-m benchmarks.shards": "--jpegs",
    "-m benchmarks.detector": "--calibration",
    "-m benchmarks.gpu_check": "make gpu-check",
    "-m tests.faults": "--only",
}
"""Every command of the project -> a word of its help."""
MISTYPED = "--no-such-option"
SLOW_TO_IMPORT = {"torch", "timm", "nvidia", "sklearn", "matplotlib"}
"""Packages that take 0.5 s of CPU or more to import, torch 3 s."""


@functools.cache
def starts() -> dict[tuple[str, str], Start]:
    """Start every command with --help, and with an option that it does not have."""
    asked = [(command, option) for command in COMMANDS for option in ("--help", MISTYPED)]
    lines = json.dumps([[*command.split(), option] for command, option in asked])
    result = run_anew("-m", "tests.support.command_starts", stdin=lines)
    found = [Start(**fields) for fields in json.loads(result.stdout)]
    return dict(zip(asked, found, strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_shown_from_the_root(command) -> None:
    help_ = starts()[command, "--help"]
    assert help_.status == 0, help_.output
    assert COMMANDS[command] in help_.output


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_does_not_exist_is_named(command) -> None:
    refused = starts()[command, MISTYPED]
    assert refused.status == 2 and refused.output.startswith("error: "), refused.output
    assert MISTYPED in refused.output


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_read_before_torch_is_imported(command) -> None:
    for option in ("--help", MISTYPED):
        imported = SLOW_TO_IMPORT & {*starts()[command, option].packages}
        assert not imported, (option, imported)


@pytest.mark.parametrize("script", ["train/main.py", "eval/score.py", "eval/export.py"])
def test_scripts_run_from_elsewhere(tmp_path, script) -> None:
    result = run_anew(ROOT / script, "--help", cwd=tmp_path)
    assert result.returncode == 0 and COMMANDS[script] in result.stdout


def test_torchrun_starts_the_trainer_from_elsewhere(tmp_path) -> None:
    result = run_anew(ROOT / "train" / "main.py", "--help", ranks=1, cwd=tmp_path)
    assert "icann22-paper-cifar10" in result.stdout


def test_a_recipe_explains_its_fields() -> None:
    result = run_anew("train/main.py", "icann22-paper-cifar10", "--help")
    text = " ".join(result.stdout.replace("│", " ").split())
    for words in ("--loss.teacher-temp-start", "paper, section 4", "CIFAR100 92.51", "Eq. 5"):
        assert words in text, words


def test_scripts_import_the_project_and_not_a_namesake(tmp_path) -> None:
    """A folder `train` of someone else's on the path does not win."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "__init__.py").write_text("raise ImportError('the wrong one')")
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"sys.path.insert(0, {str(ROOT / 'train')!r}); sys.argv = ['main.py', '--help']\n"
        f"runpy.run_path({str(ROOT / 'train' / 'main.py')!r}, run_name='__main__')"
    )
    result = run_anew("-c", code, cwd=tmp_path)
    assert "demo-cpu" in result.stdout, result.stderr
