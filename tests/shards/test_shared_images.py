"""Shared images are named, with the commands that remove them, also before a training starts."""

from __future__ import annotations

import shlex
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import shards.build
import shards.overlap
from eval.sets.leakage import check_overlap
from eval.sets.opening import open_sets
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.manifest_file import read_manifest
from shards.reader import ShardSet
from tests.support.image_sets import build_npy_set, smooth_images
from tests.support.train_cases import train
from train.config import RunConfig
from train.run_folder import first_difference, from_fields, to_fields
from train.test_set import check_test_set
from train.world import World

ALONE = World(0, 1, torch.device("cpu"))
FORMS = {
    "raw": {"encoding": "raw"},
    "padded": {"encoding": "png", "fit": "pad", "background": "navy", "resize": "pillow-bilinear"},
    "jpg": {"encoding": "jpg", "channels": 1, "seed": 7, "shard_samples": 4},
}


def photos(folder: Path, first_seed: int, count: int = 6) -> Path:
    """Write PNGs of 30 x 20 px in two class folders; one name needs quotes in a shell."""
    for number, pixels in enumerate(smooth_images(count, 30, 3, seed=first_seed)):
        path = folder / ("a cat's" if number % 2 else "dog") / f"{first_seed}-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[:20]).save(path)
    return folder


def class_set(src: Path, out: Path, **fields: object) -> Path:
    request = {"source": "class-folders", "src": src, "size_px": 16, "out": out, **fields}
    build(BuildRequest(**request))
    return out


def sets_that_share(tmp_path: Path, **fields: object) -> tuple[Path, Path, Path]:
    """Build a training and a test set with two photos in common; return folders and photos."""
    own, test = photos(tmp_path / "own", 1), photos(tmp_path / "test photos", 2)
    for name in ("dog/1-2.png", "a cat's/1-3.png"):
        shutil.copy(own / name, test / name)
    train_set = class_set(own, tmp_path / "train set", **fields)
    return train_set, class_set(test, tmp_path / "test set", split="test", **fields), test


def run_printed(message: str, photos: Path, folder: Path, monkeypatch) -> Path:
    """Run the commands of an error message, and return the set that they make."""
    told = message.split("build in-dist-test again without them: ")[1].split("; ")[0]
    overlap, rebuild = told.split(", then ")
    monkeypatch.chdir(folder)
    assert overlap.startswith("python -m shards.overlap ")
    shards.overlap.main(shlex.split(overlap)[3:])
    words = shlex.split(rebuild)
    assert words[:3] == ["python", "-m", "shards.build"]
    source = words.index("--src") + 1
    assert words[source] == f"PATH/TO/{photos.name}"
    words[source] = str(photos)
    shards.build.main(words[3:])
    return Path(words[words.index("--out") + 1])


@pytest.mark.parametrize("form", list(FORMS))
def test_the_printed_commands_mend_it(form: str, tmp_path: Path, monkeypatch) -> None:
    bank, test, its_photos = sets_that_share(tmp_path, **FORMS[form])
    with ExitStack() as stack:
        sets = open_sets(bank, test, (), stack)
        with pytest.raises(UserError) as caught:
            check_overlap(sets, None, allow_overlap=False)
    said = str(caught.value)
    start = "sets share images: 2 of in-dist-test are in in-dist-train too ("
    assert said.startswith(start) and "\n" not in said
    named = said.removeprefix(start).split(")")[0].split(", ")
    assert sorted(named) == ["a cat's/1-3.png", "dog/1-2.png"]
    assert said.endswith("; or allow it with --allow-overlap, which is recorded")

    mended = run_printed(said, its_photos, tmp_path, monkeypatch)
    with ExitStack() as stack:
        assert check_overlap(open_sets(bank, mended, (), stack), None, allow_overlap=False) == []
    before, after = read_manifest(test), read_manifest(mended)
    for field in ("channels", "encoding", "resize", "background", "classes", "split", "name"):
        assert getattr(before, field) == getattr(after, field), field
    assert after.samples == before.samples - 2
    with ShardSet.open(test) as old, ShardSet.open(mended) as new:
        kept = [old.names().index(name) for name in new.names()]
        assert np.array_equal(old.read(np.array(kept)), new.read(np.arange(len(new))))


# ---- before a training ----------------------------------------------------------------------


def config_of(**fields: Path) -> RunConfig:
    return RunConfig(out=Path("nowhere"), **fields)


@pytest.mark.parametrize("form", list(FORMS))
def test_a_training_refuses_its_test_set(form: str, tmp_path: Path, monkeypatch) -> None:
    own, test, its_photos = sets_that_share(tmp_path, **FORMS[form])
    with pytest.raises(UserError) as caught:
        check_test_set(config_of(in_dist=own, in_dist_test=test), ALONE)
    said = str(caught.value)
    assert said.startswith("sets share images: 2 of in-dist-test are in in-dist too (")
    assert said.endswith("; or train without --in-dist-test")
    mended = run_printed(said, its_photos, tmp_path, monkeypatch)
    check_test_set(config_of(in_dist=own, in_dist_test=mended), ALONE)
    check_test_set(config_of(in_dist=own), ALONE)


def test_auxiliary_images_are_compared_too(tmp_path: Path, capsys) -> None:
    images = smooth_images(12, 16, 3, seed=3)
    own = build_npy_set(tmp_path, "own", images[:6])
    test = build_npy_set(tmp_path, "test", smooth_images(4, 16, 3, seed=4))
    aux = build_npy_set(tmp_path, "aux", images[5:])
    check_test_set(config_of(in_dist=own, aux=aux, in_dist_test=test), ALONE)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(
        "note: 1 of aux are in in-dist too (0): they are trained on as positives"
    )
    with pytest.raises(UserError, match="--in-dist-test .*aux is the set of --aux, "):
        check_test_set(config_of(in_dist=own, aux=aux, in_dist_test=aux), ALONE)
    both = build_npy_set(tmp_path, "both", images[4:8])
    with pytest.raises(UserError, match="2 of in-dist-test are in in-dist too.*3 of .* aux too"):
        check_test_set(config_of(in_dist=own, aux=aux, in_dist_test=both), ALONE)


@pytest.mark.parametrize("other", [{"encoding": "jpg"}, {"resize": "pillow-bilinear"}])
def test_a_training_refuses_images_of_one_source_in_other_pixels(other, tmp_path: Path) -> None:
    """The scorer refuses them too; the test knows the shared images from how the sets were cut."""
    source, folders = photos(tmp_path / "own", 1), []
    files = sorted(str(path.relative_to(source)) for path in source.rglob("*.png"))
    for name, kept, fields in (("train", files[:4], {}), ("test", files[2:], other)):
        left_out = tmp_path / f"{name}.jsonl"
        left_out.write_text("".join(f'{{"name": "{f}"}}\n' for f in files if f not in kept))
        folders.append(class_set(source, tmp_path / name, exclude=left_out, **fields))
    own, test = folders
    with pytest.raises(UserError) as of_training:
        check_test_set(config_of(in_dist=own, in_dist_test=test), ALONE)
    with ExitStack() as stack, pytest.raises(UserError) as of_scoring:
        check_overlap(open_sets(own, test, (), stack), None, allow_overlap=False)
    for caught in (of_training, of_scoring):
        said = str(caught.value)
        assert said.startswith("sets share images: 2 of in-dist-test are in in-dist")
        assert sorted(said.split("too (")[1].split(")")[0].split(", ")) == sorted(files[2:4])


def test_a_set_of_nothing_but_shared_images_is_not_to_be_built_again(tmp_path: Path) -> None:
    images = smooth_images(6, 16, 3, seed=3)
    own, test = (build_npy_set(tmp_path, n, i) for n, i in (("own", images), ("test", images[:3])))
    with pytest.raises(UserError, match="in-dist-test has no other images, give another set; or"):
        check_test_set(config_of(in_dist=own, in_dist_test=test), ALONE)


def test_what_is_not_compared_is_told(tmp_path: Path, capsys) -> None:
    images = smooth_images(5, 16, 3, seed=3)
    own = build_npy_set(tmp_path, "own", images)
    test = build_npy_set(tmp_path, "test", images[:4], encoding="png")
    check_test_set(config_of(in_dist=own, in_dist_test=test), ALONE)
    said = capsys.readouterr().err
    assert said.startswith("note: in-dist and in-dist-test have different encodings, png and raw, ")
    assert f"python -m shards.overlap {own} {test}" in said


def test_a_test_set_of_another_size_is_refused_before_the_scorer_does(tmp_path: Path) -> None:
    own = build_npy_set(tmp_path, "own", smooth_images(4, 16, 3, seed=3))
    test = build_npy_set(tmp_path, "test", smooth_images(4, 12, 1, seed=4))
    with pytest.raises(UserError, match="^--in-dist-test .*test: .* 12x12x1, .* 16x16x3; build"):
        check_test_set(config_of(in_dist=own, in_dist_test=test), ALONE)


@pytest.mark.slow
def test_it_is_looked_at_before_anything_is_made(gray_dir: Path, tmp_path: Path) -> None:
    found = train(gray_dir, tmp_path / "run", "--in-dist-test", str(gray_dir))
    assert found.returncode == 2, found
    assert found.stderr.startswith("error: --in-dist-test ") and "Traceback" not in found.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_another_test_set_or_none(tmp_path: Path) -> None:
    run = config_of(in_dist=tmp_path, in_dist_test=tmp_path / "test")
    fields = to_fields(run)
    assert from_fields(fields) == run
    del fields["in_dist_test"]  # A run of an older version has no such field.
    assert first_difference(run, from_fields(fields)) is None
