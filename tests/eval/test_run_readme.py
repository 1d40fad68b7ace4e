"""The section of a run's README.md that says what the detector of the run sees."""

from __future__ import annotations

from pathlib import Path

from eval.intervals import Interval
from eval.results.run_readme import note_sight

SIGHT = {"paste": Interval(0.875, 0.8, 0.9), "hue": Interval(0.5, 0.45, 0.55)}
SETS = {"bank": Path("shards/train"), "test": Path("shards/test")}


def test_each_scoring_replaces_the_section(tmp_path) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(b"# A run\n\nin \xff\n")
    note_sight(tmp_path, {"blur": Interval(1.0, 0.99, 1.0)}, "eq6", 10, **SETS)
    note_sight(tmp_path, SIGHT, "ensemble", 1152, **SETS)
    assert path.read_bytes() == (
        b"# A run\n\nin \xff\n\n## What its detector sees\n\n"
        b"AUROC in % on synthetic outliers: held-out normal images that were spoiled. Score: "
        b"ensemble; checkpoint: step 1,152; bank: `shards/train`; held out: `shards/test`.\n\n"
        b"| family | AUROC | 95 % interval |\n|---|---:|---:|\n"
        b"| paste | 87.50 | 80.00 to 90.00 |\n| hue | 50.00 | 45.00 to 55.00 |\n\n"
        b"- It sees pieces of other images.\n- It does not see changes of hue.\n"
    )


def test_what_the_user_wrote_below_stays(tmp_path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# A run\n")
    note_sight(tmp_path, SIGHT, "eq6", 10, **SETS)
    first = path.read_text()
    path.write_text(f"{first}\n## My notes\n\nA good run.\n")
    note_sight(tmp_path, SIGHT, "eq6", 10, **SETS)
    assert path.read_text() == f"{first}\n## My notes\n\nA good run.\n"


def test_a_useless_detector_is_called_so_first(tmp_path) -> None:
    (tmp_path / "README.md").write_text("# A run\n")
    note_sight(tmp_path, {"hue": SIGHT["hue"]}, "eq6", 10, **SETS)
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert lines[4].startswith("**This detector is useless: it sees none of 1 kinds")


def test_a_run_without_a_readme_gets_none(tmp_path, capsys) -> None:
    note_sight(tmp_path, SIGHT, "ensemble", 10, **SETS)
    assert not list(tmp_path.iterdir())
    assert "README.md does not say what the detector sees" in capsys.readouterr().err
