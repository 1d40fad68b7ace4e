"""DALI's answers about encoded images, from a process that may crash on them."""

import io
import subprocess
import sys

import pytest
from PIL import Image

from shards.building import dali_check
from shards.building.dali_check import DaliProcess, dali_errors
from shards.errors import UserError
from tests.support.paths import ROOT
from tests.support.shard_cases import random_images

pytestmark = pytest.mark.slow


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(random_images(1, size_px=16, seed=seed)[0]).save(file, "JPEG")
    return file.getvalue()


def test_each_image_is_asked_about() -> None:
    good = [jpeg(seed) for seed in range(140)]
    files = [*good[:40], good[40][:200], b"<html>", *good[40:]]
    errors = dali_errors(files)
    assert [i for i, error in enumerate(errors) if error] == [40, 41]
    assert len(errors) == 142
    assert all(error.startswith("DALI cannot decode it: ") for error in errors if error)
    assert all("\n" not in error for error in errors if error)
    assert dali_errors([]) == []


FRAGILE = """
import os
from shards.building import dali_check
ask = dali_check._error
dali_check._error = lambda files: [os.abort() for f in files if bytes(f) == b"boom"] or ask(files)
dali_check.serve()
"""


@pytest.fixture
def process():
    process = DaliProcess()
    yield process
    process.close()


def started(monkeypatch, code: str) -> list[subprocess.Popen]:
    """Let the process run this code; return the list of processes that are started."""
    processes = []
    popen = subprocess.Popen

    def start(command, **options):
        processes.append(popen([sys.executable, "-c", code], **{**options, "cwd": ROOT}))
        return processes[-1]

    monkeypatch.setattr(dali_check.subprocess, "Popen", start)
    return processes


def test_what_kills_the_process_is_a_bad_image(monkeypatch, process) -> None:
    processes = started(monkeypatch, FRAGILE)
    files = [jpeg(0), b"boom", jpeg(1), b"<html>", jpeg(2)]
    errors = process.errors(files)
    assert [error and error.split(":")[0] for error in errors] == [
        None,
        "DALI crashes on it",
        None,
        "DALI cannot decode it",
        None,
    ]
    assert len(processes) == 4, "started, after the batch, after each bad image"
    assert process.errors(files[:1]) == [None]
    assert [p.poll() is None for p in processes] == [False, False, False, True]


def test_without_dali_it_is_told(monkeypatch, process) -> None:
    started(monkeypatch, "import sys; sys.modules['nvidia.dali'] = None\n" + FRAGILE)
    with pytest.raises(UserError, match="need DALI"):
        process.errors([jpeg(0)])
