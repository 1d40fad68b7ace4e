"""The rules by which a set converted image files are recorded, and applied again to new files."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from eval.decisions.images import prepare, rule_of
from eval.exported import FORMAT_VERSION, Header
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.errors import UserError
from shards.manifest_file import read_manifest
from shards.reader import ShardSet
from tests.support.commands import run_command
from tests.support.shard_cases import npy_set, random_images
from tests.support.stored_cases import colour_picture, gray_picture, icc_profile, png, saved, tiff


def folder_set(folder: Path, out: Path, **fields: object) -> Path:
    request = BuildRequest("folder", folder, size_px=16, out=out)
    build(dataclasses.replace(request, **fields))  # type: ignore[arg-type]
    return out


def pixels_by_name(directory: Path) -> dict[str, np.ndarray]:
    with ShardSet.open(directory) as shards:
        return dict(zip(shards.names(), shards.read(np.arange(len(shards))), strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of 16 x 16 px and of other shapes: transparent, of 16 bits, and with profiles."""
    folder = tmp_path / "photos"
    folder.mkdir()
    clear = np.dstack([colour_picture(), gray_picture()])
    tall = Image.fromarray(random_images(1, size_px=40)[0, :, :23])
    deep = gray_picture().astype(np.uint16)
    first = Image.fromarray(gray_picture())
    files = {
        "clear.png": saved(clear, "PNG"),
        "deep.png": png(deep[..., None] * 16, 16, 0),
        "float.tif": tiff((deep * 16).astype("f4"), bits=32, sample_format=3),
        "linear.png": saved(colour_picture(), "PNG", icc_profile=icc_profile(1.0)),
        "of the size.jpg": saved(colour_picture(), "JPEG", comment=b"secret", exif=secret_exif()),
        "with a profile.jpg": saved(colour_picture(), "JPEG", icc_profile=icc_profile(1.0)),
        "tall.webp": saved(tall, "WEBP", lossless=True),
        "pages.tif": saved(first, "TIFF", save_all=True, append_images=[Image.new("L", (16, 16))]),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def secret_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = "secret"
    return exif


RULES = [
    {},
    {"background": "navy", "intensity": (0.0, 4095.0), "fit": "pad", "encoding": "png"},
    {"background": "#102030", "intensity": (0, 4080), "fit": "crop", "encoding": "jpg"},
    {"intensity": (100, 3000), "channels": 1, "resize": "pillow-bilinear-pad"},
]


@pytest.mark.parametrize("fields", RULES, ids=["default", "pad", "crop", "gray"])
def test_own_images_get_the_pixels_of_the_set(folder: Path, tmp_path: Path, fields) -> None:
    directory = folder_set(folder, tmp_path / "set", max_rejects_pct=50, **fields)
    manifest = read_manifest(directory)
    header = exported(manifest)
    stored = pixels_by_name(directory)
    refused = set() if fields else {"deep.png", "float.tif"}
    assert stored.keys() == {path.name for path in folder.iterdir()} - refused
    for rule in (rule_of(manifest, manifest), header.rule):
        for name, pixels in stored.items():
            assert np.array_equal(prepare((folder / name).read_bytes(), rule), pixels), name
            with Image.open(folder / name) as image:
                if manifest.encoding != "jpg":  # A JPEG of the right size is stored unchanged.
                    assert np.array_equal(prepare(image, rule), pixels), name


def exported(manifest) -> Header:
    """Return the header of an exported file after it was written and read again."""
    rule = rule_of(manifest, manifest)
    header = Header(
        format_version=FORMAT_VERSION, fpr=0.05, threshold=0.0, calibration_scores=[1.0], tau=0.04,
        bank={}, checkpoint={}, manifests={}, **dataclasses.asdict(rule),
    )  # fmt: skip
    again = Header.from_metadata(Path("file.onnx"), header.to_metadata())
    assert again.rule == rule
    return again


def test_an_exported_file_from_before_has_white() -> None:
    metadata = {
        **{"format_version": str(FORMAT_VERSION), "fpr": "0.05", "threshold": "0"},
        **{"calibration_scores": "[0.5]", "size_px": "8", "channels": "3", "encoding": '"raw"'},
        **{"resize": '"pillow-bicubic"', "tau": "0.04"},
        **{"bank": "{}", "checkpoint": "{}", "manifests": "{}"},
    }
    rule = Header.from_metadata(Path("file.onnx"), metadata).rule
    assert (rule.background, rule.intensity) == ("#ffffff", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"intensity": "[1.0]"},
        {"intensity": "[2, 1]"},
        {"background": '"nocolour"'},
        {"intensity": "5"},
    ],
)
def test_an_exported_file_whose_rule_cannot_be(folder: Path, tmp_path: Path, changes) -> None:
    manifest = read_manifest(folder_set(folder, tmp_path / "set", **RULES[1]))
    metadata = {**exported(manifest).to_metadata(), **changes}
    with pytest.raises(UserError, match="file.onnx: was not made by eval/export.py"):
        Header.from_metadata(Path("file.onnx"), metadata)


def test_the_rules_are_in_the_manifest(folder: Path, tmp_path: Path, capsys) -> None:
    default = read_manifest(folder_set(folder, tmp_path / "a", max_rejects_pct=50))
    assert (default.background, default.intensity, default.resize) == (
        *("#ffffff", None),
        "pillow-bicubic",
    )
    assert default.rejects == 2
    assert list(default.passed_over.values()) == [1]  # The second page of a TIFF.
    said = capsys.readouterr().err
    assert "1 of 6 images are not square and were squashed, by a factor of 1.74" in said
    other = read_manifest(folder_set(folder, tmp_path / "b", **RULES[1]))
    assert (other.background, other.intensity) == ("#000080", (0, 4095))
    assert (other.resize, other.rejects) == ("pillow-bicubic-pad", 0)
    assert "have margins: 42% of their area" in capsys.readouterr().err
    assert default.sha256 != other.sha256


def test_pixels_have_no_rule(tmp_path: Path) -> None:
    """An array has no transparency, so its manifest does not have the field."""
    manifest = read_manifest(npy_set(tmp_path))
    assert "background" not in (tmp_path / "set" / "manifest.json").read_text()
    assert (manifest.background, manifest.intensity, manifest.passed_over) == ("", None, {})
    with pytest.raises(UserError, match=r"intensity is \(0, 1\), .* holds pixels of 8 bits"):
        npy_set(tmp_path, out=tmp_path / "other", intensity=(0, 1))


def test_the_refusal_tells_what_to_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        folder_set(folder, tmp_path / "set")
    said = str(caught.value)
    assert "photos: 2 images are bad" in said or "photos: 1 images are bad" in said
    assert "deep.png (is of 16 bits" in said and "--intensity 0 4095" in said
    assert not (tmp_path / "set").exists()


def test_padding_keeps_the_shape(folder: Path, tmp_path: Path) -> None:
    stored = pixels_by_name(folder_set(folder, tmp_path / "set", **RULES[1]))["tall.webp"]
    with Image.open(folder / "tall.webp") as image:
        expected = ImageOps.pad(image, (16, 16), Image.Resampling.BICUBIC, color="navy")
    found = stored[:, 3:12]  # 9 columns; Pillow puts the odd one of the margin on the other side.
    assert np.array_equal(found, np.asarray(expected)[:, 4:13])
    assert (np.delete(stored, range(3, 12), axis=1) == (0, 0, 128)).all()


def test_nothing_private_is_in_an_encoded_set(folder: Path, tmp_path: Path) -> None:
    for encoding in ("jpg", "png"):
        out = tmp_path / encoding
        folder_set(folder, out, encoding=encoding, intensity=(0, 4095))
        for path in out.glob("*.tar"):
            assert b"secret" not in path.read_bytes() and b"ICC_PROFILE" not in path.read_bytes()
            with tarfile.open(path) as tar:
                for member in tar.getmembers():
                    with Image.open(io.BytesIO(tar.extractfile(member).read())) as image:
                        assert not {"icc_profile", "exif", "comment", "transparency"} & {
                            *image.info
                        }


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"background": "no colour"}, "background is 'no colour', expected a colour"),
        ({"background": "#ffffff80"}, "background is '#ffffff80', expected a colour"),
        ({"intensity": (5.0, 5.0)}, "intensity is 5 5, expected two numbers, the lower first"),
        ({"intensity": (0.0, float("inf"))}, "intensity is 0 inf, expected"),
        ({"fit": "crop", "resize": "pillow-bilinear-pad"}, "contradicts fit crop"),
        ({"fit": "squash", "resize": "pillow-bilinear-crop"}, "contradicts fit squash"),
        ({"fit": "stretch"}, "fit is 'stretch', expected squash, crop, pad"),
    ],
)
def test_rules_that_cannot_be_meant(folder: Path, tmp_path: Path, fields, words: str) -> None:
    with pytest.raises(UserError, match="(?s).*" + words.replace("(", r"\(")):
        folder_set(folder, tmp_path / "set", **fields)
    assert not list(tmp_path.glob("*set*"))


@pytest.mark.slow
def test_the_command_line_takes_them(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    found = run_command(
        "-m",
        *("shards.build", "--source", "folder", "--src", folder, "--size-px", 16, "--out", out),
        *("--background", "black", "--intensity", 0, 4095, "--fit", "pad"),
    )
    assert found.returncode == 0, found.stderr
    assert "1 of 8 images are not square and have margins" in found.stderr
    shown = run_command("-m", "shards.info", out).stdout
    assert "laid on #000000" in shown and "0 is black, 4095 is white" in shown
