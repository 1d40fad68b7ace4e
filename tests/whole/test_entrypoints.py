"""The commands work as scripts and as modules, from the root and from elsewhere, uninstalled."""

from __future__ import annotations

import pytest

from tests.support.commands import run_anew
from tests.support.paths import ROOT

COMMANDS = {
    "train/main.py": "demo-cpu",
    "eval/score.py": "--in-dist-train",
    "-m eval.score": "--in-dist-train",
    "eval/export.py": "--calibration",
    "-m eval.exported": "FOLDER",
    "-m shards.build": "--size-px",
    "-m shards.sets": "--protocol",
    "-m shards.verify": "--full",
    "-m shards.overlap": "--exclude-list",
    "-m shards.info": "--sheet",
    "-m shards.sample.remake": "--part",
    "-m dali_pipes.preview": "--negatives",
    "-m train.preview": "demo-cpu",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_shown_from_the_root(command) -> None:
    result = run_anew(*command.split(), "--help")
    assert result.returncode == 0, result.stderr
    assert COMMANDS[command] in result.stdout


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


@pytest.mark.parametrize("command", ["train/main.py", "-m train.preview"])
@pytest.mark.parametrize("options", ["--help", "demo-cpu --help", "demo-cpu --seeed 3"])
def test_help_and_mistakes_do_not_wait_for_torch(command, options) -> None:
    *module, name = command.split()
    run = "module" if module else "path"
    code = (
        f"import sys, runpy; sys.argv = {['', *options.split()]!r}\n"
        f"try: runpy.run_{run}({name!r}, run_name='__main__')\n"
        "except SystemExit as end: status = end.code\n"
        "print(status, 'torch' in sys.modules)"
    )
    result = run_anew("-c", code)
    status = 0 if "--help" in options else 2
    assert result.stdout.splitlines()[-1] == f"{status} False", result.stderr


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
