"""Every damage to a finished set is refused, and the message names the file."""

import dataclasses
import hashlib
import json
import os
import random
import re
from pathlib import Path

import pytest
from PIL import Image

from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.manifest import Manifest
from shards.manifest_file import read_manifest, to_json
from shards.reader import ShardSet
from shards.verify import main, verify_shards
from tests.support.commands import run_command
from tests.support.shard_cases import assert_user_error, npy_set, random_images, sample_set


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Three shards of 10, 10 and 3 unlabelled samples; tars 0 and 1 have equal sizes."""
    return npy_set(tmp_path)


def refused(directory: Path, name: str, full: bool = False) -> None:
    with pytest.raises(UserError, match=re.escape(f"{directory / name}")):
        verify_shards(directory, full)


def test_a_good_set_passes(directory: Path, tmp_path: Path, capsys) -> None:
    labelled = sample_set(tmp_path / "labelled")
    for one in (directory, labelled):
        assert verify_shards(one) == verify_shards(one, full=True) == read_manifest(one)
    main([str(directory), str(labelled), "--full"])
    assert capsys.readouterr().out == (
        f"{directory}: ok, 23 samples of 6x6x3 in 3 shards (all bytes)\n"
        f"{labelled}: ok, 900 samples of 28x28x1 in 3 shards (all bytes)\n"
    )


def test_unlisted_files_are_ignored(directory: Path) -> None:
    (directory / "set-train-00003.tar").write_bytes(b"x")
    (directory / "set-train-00003.idx").write_bytes(b"x")
    assert verify_shards(directory, full=True).samples == 23


@pytest.mark.parametrize("suffix", [".tar", ".idx"])
@pytest.mark.parametrize("kind", ["missing", "link", "folder", "fifo"])
def test_only_regular_files(directory: Path, suffix: str, kind: str) -> None:
    path = directory / f"set-train-00001{suffix}"
    moved = path.rename(directory / "moved")
    if kind == "link":
        path.symlink_to(moved)
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    refused(directory, path.name)


def test_a_cut_tar_at_every_block(directory: Path) -> None:
    path = directory / "set-train-00001.tar"
    whole = path.read_bytes()
    assert len(whole) % 512 == 0
    cuts = [*range(0, len(whole), 512), len(whole) - 1, 1, 700]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        refused(directory, path.name)
    path.write_bytes(whole + bytes(512))
    refused(directory, path.name)
    path.write_bytes(whole)
    verify_shards(directory)


def test_every_flipped_bit_is_found_by_full(directory: Path) -> None:
    random_ = random.Random(0)
    for suffix, count in ((".tar", 40), (".idx", 20)):
        path = directory / f"set-train-00002{suffix}"
        whole = path.read_bytes()
        for position in random_.sample(range(len(whole)), count):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << random_.randrange(8)
            path.write_bytes(flipped)
            refused(directory, path.name, full=True)
            if suffix == ".idx":
                refused(directory, path.name)
        path.write_bytes(whole)
    verify_shards(directory, full=True)


@pytest.mark.parametrize("suffix", [".tar", ".idx"])
def test_swapped_shards_of_equal_size(directory: Path, suffix: str) -> None:
    first, second = (directory / f"set-train-0000{k}{suffix}" for k in (0, 1))
    assert first.stat().st_size == second.stat().st_size
    first.rename(directory / "moved")
    second.rename(first)
    (directory / "moved").rename(second)
    refused(directory, first.name)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("v1.2 10", "v1.2 9"),
        lambda text: text.replace(" 108 ", " 99999 "),
        lambda text: text.replace(" 108 ", " -108 "),
        lambda text: "\n".join(text.split("\n")[:-2]) + "\n",
        lambda text: "",
        lambda text: text + "\n",
        lambda text: text.replace("bin 1536 ", "bin 2560 "),
    ],
)
def test_an_edited_index(directory: Path, edit) -> None:
    path = directory / "set-train-00000.idx"
    assert edit(path.read_text()) != path.read_text()
    path.write_text(edit(path.read_text()))
    refused(directory, path.name)


def reindexed(directory: Path, edit) -> None:
    """Edit the second index and its digest in the manifest, so that only its meaning is wrong."""
    import hashlib

    manifest = read_manifest(directory)
    path = directory / manifest.shards[1].idx_file
    text = edit(path.read_text())
    assert text != path.read_text()
    path.write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    shard = dataclasses.replace(manifest.shards[1], idx_sha256=digest)
    shards = (manifest.shards[0], shard, manifest.shards[2])
    (directory / "manifest.json").write_text(to_json(dataclasses.replace(manifest, shards=shards)))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda text: text.replace(" 108 ", " 109 "), "other than 108 bytes"),
        (lambda text: text.replace("bin 512 ", "bin 513 "), "points elsewhere"),
        (lambda text: text.replace("bin 512 ", "bin 51200000 "), "points elsewhere"),
        (lambda text: text.replace("bin 512 ", "bin 1536 "), "points elsewhere"),
        (lambda text: text.replace("000000012.bin", "000000013.bin"), "not 10 samples"),
        (lambda text: text.replace("bin ", "png ").replace(".bin", ".png"), "components png"),
        (lambda text: re.sub("v1.2 10\n.*\n", "v1.2 9\n", text), "not 10 samples"),
    ],
)
def test_an_index_that_is_consistent_and_wrong(directory: Path, edit, reason: str) -> None:
    reindexed(directory, edit)
    with pytest.raises(UserError, match=rf"set-train-00001\.(idx|tar): .*{reason}"):
        verify_shards(directory)


OPTIONAL = {
    "sizes_sha256": "0" * 64,
    "background": "#ffffff",
    "intensity": [0, 4095],
    "component": "jpg",
    "passed_over": {"links": 1},
}
"""A value for each field that a manifest leaves out at its default."""


def changed(value: object) -> object:
    """Return another value of the same type."""
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    assert isinstance(value, list)
    return value[:-1] if value else [1]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Manifest)])
def test_an_edited_manifest(tmp_path: Path, field: str) -> None:
    directory = npy_set(tmp_path, size_px=5)  # A set that was not resized has no sizes_sha256.
    path = directory / "manifest.json"
    fields = json.loads(path.read_text())
    other = changed(fields[field]) if field in fields else OPTIONAL[field]
    for edited in ({**fields, field: other}, {**fields, field: None}):
        path.write_text(json.dumps(edited))
        refused(directory, path.name)
    if field in fields:
        del fields[field]
        path.write_text(json.dumps(fields))
        refused(directory, path.name)


def test_a_damaged_manifest(directory: Path) -> None:
    path = directory / "manifest.json"
    whole = path.read_bytes()
    random_ = random.Random(0)
    # Without its last line break the manifest is still valid.
    for cut in [*random_.sample(range(len(whole) - 1), 40), len(whole) - 2]:
        path.write_bytes(whole[:cut])
        refused(directory, path.name)
    for position in random_.sample(range(len(whole) - 1), 60):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << random_.randrange(8)
        path.write_bytes(flipped)
        refused(directory, path.name)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "null", '{"format_version": 2}', "\xff"])
def test_what_is_no_manifest(directory: Path, text: str) -> None:
    (directory / "manifest.json").write_bytes(text.encode("latin1"))
    refused(directory, "manifest.json")


@pytest.mark.parametrize(
    "fields",
    [{"shard_samples": 0}, {"shards": (), "samples": 0}, {"encoding": "gif"}, {"channels": 2}],
)
def test_a_manifest_of_impossible_values(directory: Path, fields) -> None:
    resealed(directory, **fields)
    refused(directory, "manifest.json")


WRONG_VALUES = {
    "name": ["../set", "", 5, None, "a b"],
    "split": ["", "x" * 81, ["train"]],
    "protocol": [1, None],
    "source": [["folder"]],
    "samples": [10**30, -1, 7.0, "7", True],
    "height_px": [10**30, 0, -6, 6.5, 2000],
    "width_px": [0, float("nan"), True],
    "channels": [2, 3.0, "3"],
    "encoding": ["gif", 0, "RAW"],
    "resize": ["nearest", ""],
    "classes": [[["a"]], ["a", 1], "ab", {"a": 1}],
    "labels": [["a"], [-1], [10**30], [0.5], [True], [1, 0], [0, 0], [2]],
    "sources": [[{"file": "x", "bytes": -1, "sha256": "0" * 64}], [1], [{"file": "x"}], {}],
    "checks": [["md5", 1], "md5"],
    "excluded": [-1, 1.5, 3],
    "exclude_sha256": ["x", 0],
    "rejects": [-1, 10**30, 2],
    "rejects_sha256": ["0" * 63, None],
    "shuffle_seed": [10**400, -1, 0.5, "0"],
    "shard_samples": [0, 10**30, 3.0],
    "names_sha256": ["", "Z" * 64],
    "shards": [[], [{"file": "set-train-00000.tar"}], "x", [[1]]],
    "sizes_sha256": ["x"],
    "background": ["white", "#FFFFFF", "#fff", 0],
    "intensity": [[0, 10**400], [1, 0], [0, 0], [0], [0, 1, 2], [0, float("inf")], ["a", "b"], 5],
    "component": [5],
    "passed_over": [{"links": 0}, {"links": -1}, {"links": 1.5}, {"links": True}, [1]],
}
"""Field -> values that JSON can hold and that no build writes."""


def test_every_field_has_wrong_values() -> None:
    assert set(WRONG_VALUES) == {field.name for field in dataclasses.fields(Manifest)} - {
        "format_version"
    }


def sealed(fields: dict[str, object]) -> str:
    """Return the text of a manifest of these fields with their right digest."""
    text = json.dumps(fields, sort_keys=True)
    return json.dumps({**fields, "~sha256": hashlib.sha256(text.encode()).hexdigest()})


@pytest.mark.parametrize("field", list(WRONG_VALUES))
def test_a_manifest_whose_digest_is_right_and_whose_value_is_not(
    directory: Path, field: str
) -> None:
    path = directory / "manifest.json"
    fields = json.loads(path.read_text())
    del fields["~sha256"]
    path.write_text(sealed(fields))
    verify_shards(directory)
    for value in WRONG_VALUES[field]:
        path.write_text(sealed({**fields, field: value}))
        with pytest.raises(UserError) as caught:
            verify_shards(directory)
        assert str(caught.value).startswith(f"{path}: not a manifest"), value
        assert "its own sha256" not in str(caught.value), value
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("key", ["samples", "bytes", "sha256", "idx_sha256", "file"])
def test_a_shard_whose_digest_is_right_and_whose_value_is_not(directory: Path, key: str) -> None:
    path = directory / "manifest.json"
    fields = json.loads(path.read_text())
    del fields["~sha256"]
    first, *others = fields["shards"]
    for value in (10**30, -1, 0, 0.5, None, "x", "../set-train-00000.tar", True, [1]):
        path.write_text(sealed({**fields, "shards": [{**first, key: value}, *others]}))
        with pytest.raises(UserError, match=re.escape(str(directory))):
            verify_shards(directory)


@pytest.mark.parametrize(
    "text",
    ["5\n" * 23, '"a"\n' * 22 + '["b"]\n', '"a"\n' * 22, "[" * 9999 + "\n", "\xff\n" * 23],
    ids=["numbers", "a list", "too few", "deep", "bytes"],
)
def test_names_whose_digest_is_right_and_that_are_none(directory: Path, text: str) -> None:
    data = text.encode("latin1")
    (directory / "names.jsonl").write_bytes(data)
    resealed(directory, names_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(UserError, match=re.escape(str(directory / "names.jsonl"))):
        verify_shards(directory)
        with ShardSet.open(directory) as shards:
            shards.names()


def test_a_shard_that_is_listed_twice(directory: Path) -> None:
    first, second, third = read_manifest(directory).shards
    again = dataclasses.replace(second, file=first.file)
    resealed(directory, shards=(first, again, third))
    refused(directory, "manifest.json")


def resealed(directory: Path, **fields: object) -> None:
    """Change fields of the manifest, and its own digest with them."""
    manifest = read_manifest(directory)
    (directory / "manifest.json").write_text(to_json(dataclasses.replace(manifest, **fields)))


@pytest.mark.parametrize(
    "fields", [{"height_px": 7}, {"channels": 1}, {"classes": ("a",)}, {"name": "b"}]
)
def test_a_manifest_that_does_not_fit_its_shards(directory: Path, fields) -> None:
    resealed(directory, **fields)
    refused(directory, "set-train-00000")


def test_shards_in_another_order(directory: Path) -> None:
    first, second, third = read_manifest(directory).shards
    resealed(directory, shards=(second, first, third))
    refused(directory, "set-train-00000.tar")


@pytest.mark.parametrize("file", ["names.jsonl", "rejects.jsonl"])
def test_edited_lists(tmp_path: Path, file: str) -> None:
    for i in range(3):
        Image.fromarray(random_images(1, seed=i)[0]).save(tmp_path / f"{i}.png")
    (tmp_path / "7.png").write_bytes(b"<html>")
    out = tmp_path / "set"
    build(BuildRequest("folder", tmp_path, size_px=6, out=out, max_rejects_pct=30))
    verify_shards(out)
    text = (out / file).read_text()
    for edited in (text.replace("7", "8").replace("1", "8"), text + '"x"\n', ""):
        (out / file).write_text(edited)
        refused(out, file)
    (out / file).unlink()
    refused(out, file)


@pytest.mark.slow
def test_command_line_errors(directory: Path, tmp_path: Path) -> None:
    path = directory / "set-train-00002.tar"
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    assert run_command("-m", "shards.verify", directory).returncode == 0
    result = run_command("-m", "shards.verify", directory, "--full")
    assert_user_error(result, "set-train-00002.tar", "changed")
    assert_user_error(
        run_command("-m", "shards.verify", tmp_path / "nowhere"), "nowhere", "no such folder"
    )
    (directory / "manifest.json").unlink()
    assert_user_error(
        run_command("-m", "shards.verify", directory), "manifest.json", "not a finished"
    )
    assert_user_error(run_command("-m", "shards.verify"), "no folder")
