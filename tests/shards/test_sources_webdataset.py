"""Sets in the WebDataset format give what the `webdataset` package reads from the same tars."""

import contextlib
import dataclasses
import functools
import gzip
import http.server
import io
import os
import resource
import subprocess
import sys
import tempfile
import threading
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from shards.build import build
from shards.errors import UserError
from shards.reader import ShardSet
from shards.sources import webdataset as webdataset_module
from shards.sources.registry import open_source
from tests.support import source_cases as cases
from tests.support.paths import ROOT

JPG = cases.encoded(np.random.default_rng(0))


def by_webdataset(paths: list[Path]) -> list[dict[str, Any]]:
    """Return the samples of tars in their order, undecoded."""
    urls = [f"file:{path}" for path in paths]
    return list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))


def write(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.write_bytes(cases.tar_bytes(members))
    return path


@pytest.mark.parametrize("src", [".", "shard-{000..002}.tar", "shard-00{0..2}.tar", "one"])
def test_as_the_package_reads_it(tmp_path: Path, src: str) -> None:
    made = cases.write_webdataset(tmp_path)["train"]
    paths = sorted(tmp_path.glob("*.tar"))
    if src == "one":
        paths, src = paths[1:2], "shard-001.tar"
    source = open_source("webdataset", tmp_path / src, "any")
    theirs = by_webdataset(paths)
    assert len(source) == len(theirs) == (3 if len(paths) == 1 else len(made.images))
    assert source.paths == tuple(paths)
    for i, sample in enumerate(theirs):
        assert source.read(i) == sample["jpg"]
        assert source.labels[i] == int(sample["cls"])  # type: ignore[index]
        assert source.name(i) == f"{Path(sample['__url__']).name}/{sample['__key__']}"


def test_components(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = [cases.encoded(rng, kind) for kind in ("PNG", "JPEG", "WEBP", "PNG")]
    path = write(
        tmp_path / "x.tar",
        [
            ("__meta__/x.txt", b"of the whole"),
            ("d.ir/1.txt", b"x"),
            ("d.ir/1.json", b'{"label": 12}'),
            ("d.ir/1.nopng", b"x"),
            ("d.ir/1.PNG", images[0]),
            ("2.cls", b" 7\n"),
            ("2.left.jpg", b"another"),
            ("2.JPG", images[1]),
            ("2.right.jpg", b"another"),
            ("2.json", b'{"label": 1}'),
            ("no-component", b""),
            ("3.json", b'{"cls": 0, "label": "cat"}'),
            ("3.webp", images[2]),
            ("d/3.png", images[3]),
            ("d/3.cls", b"3"),
        ],
    )
    source = open_source("webdataset", path, "any")
    assert [source.name(i) for i in range(4)] == [f"x.tar/{k}" for k in ("d.ir/1", "2", "3", "d/3")]
    assert [source.read(i) for i in range(4)] == images
    assert source.labels.tolist() == [12, 7, 0, 3]  # type: ignore[union-attr]
    assert source.classes == tuple(str(i) for i in range(13))
    assert source.passed_over == {"another image of its sample": 2, "of no sample": 1}
    theirs = by_webdataset([path])
    assert [sample["__key__"] for sample in theirs] == ["d.ir/1", "2", "3", "d/3"]


@pytest.mark.parametrize("json", [None, b'{"label": "dog"}', b"[1]", b'{"x": 1}', b'{"cls": -1}'])
def test_labels_of_some_samples_are_refused(tmp_path: Path, json: bytes | None) -> None:
    none = [("d/2.jpg", JPG), *([] if json is None else [("d/2.json", json)])]
    write(tmp_path / "x.tar", [("1.jpg", JPG), ("1.cls", b"1")])
    write(tmp_path / "y.tar", [("1.jpg", JPG), ("1.cls", b"1"), *none, ("3.jpg", JPG)])
    with pytest.raises(UserError, match=r"y\.tar: sample 'd/2' has no label, 2 of 4 have one"):
        open_source("webdataset", tmp_path, "any")
    source = open_source("webdataset", write(tmp_path / "y.tar", none), "any")
    assert (source.labels, source.classes, len(source)) == (None, (), 1)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.jpg", JPG), ("2.txt", b"x")], "sample '2' has no image; it has txt"),
        ([("1.bin", b"x"), ("1.cls", b"1")], "sample '1' has no image; it has bin, cls"),
        ([("1.jpg", JPG), ("2.jpg", JPG), ("1.cls", b"1")], "sample '1' goes on after another one"),
        ([("1.jpg", JPG), ("1.JPG", JPG)], "sample '1' has component 'jpg' twice"),
        ([("1.jpg", JPG), ("1.cls", b"cat")], "sample '1': its cls is b'cat', expected a number"),
        ([("1.jpg", JPG), ("1.cls", b"-1")], "sample '1': its cls is b'-1', expected a number"),
        ([("1.jpg", JPG), ("1.cls", b"9" * 7)], "sample '1': its cls is b'9999999', expected"),
        ([("1.jpg", JPG), ("1.json", b"{")], "sample '1': its json is damaged"),
        ([("1.jpg", JPG), ("1.json", b"\xff")], "sample '1': its json is damaged"),
        ([("README", b"x")], "no samples"),
    ],
)
def test_what_is_not_in_the_format(tmp_path: Path, members: list[Any], message: str) -> None:
    path = write(tmp_path / "x.tar", members)
    with pytest.raises(UserError, match=rf"x\.tar: {message}") as caught:
        open_source("webdataset", path, "any")
    assert "\n" not in str(caught.value)


IMAGES = [("1.depth.png", b"depth"), ("1.jpg", JPG), ("1.cls", b"3"), ("1.seg.png", b"seg")]


def test_the_plain_image_of_a_sample_comes_first(tmp_path: Path, capsys) -> None:
    path = write(tmp_path / "x.tar", [*IMAGES, ("2.only.png", JPG), ("2.cls", b"0")])
    source = open_source("webdataset", path, "any")
    assert [source.read(i) for i in range(2)] == [JPG, JPG]
    assert source.passed_over == {"another image of its sample": 2}
    told = f"note: {path}: 2 entries are passed over (another image of its sample: 2)\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("1.png", JPG), ("1.jpg", JPG)], "2 images, png, jpg: name one .--component png."),
        ([("1.a.png", JPG), ("1.b.png", JPG)], "2 images, a.png, b.png: name one .--component a.p"),
    ],
)
def test_more_than_one_image_is_not_chosen_from(tmp_path: Path, members: Any, words: str) -> None:
    path = write(tmp_path / "x.tar", [("0.jpg", JPG), *members])
    with pytest.raises(UserError, match=rf"x\.tar: sample '1' has {words}"):
        open_source("webdataset", path, "any")


def test_a_component_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tar", [*IMAGES, ("2.Depth.PNG", b"other"), ("2.cls", b"0")])
    for name in ("depth.png", "Depth.PNG"):
        source = open_source("webdataset", path, "any", name)
        assert [source.read(i) for i in range(2)] == [b"depth", b"other"]
    with pytest.raises(UserError, match=r"'2' has no component 'jpg'; it has depth.png, cls$"):
        open_source("webdataset", path, "any", "jpg")
    with pytest.raises(UserError, match=r"'1' has no component ''; it has depth.png, jpg, cls"):
        open_source("webdataset", path, "any", "")
    with pytest.raises(UserError, match="component is 'jpg', but the samples of folder have none"):
        open_source("folder", tmp_path, "any", "jpg")


def test_the_component_is_part_of_a_set(tmp_path: Path) -> None:
    from shards.building.build_plan import BuildRequest, plan
    from shards.manifest_file import read_manifest

    png = cases.encoded(np.random.default_rng(2), "PNG", (6, 6))
    path = write(tmp_path / "x.tar", [("1.depth.png", png), ("1.jpg", JPG), ("1.jpeg", JPG)])
    request = BuildRequest("webdataset", path, size_px=6, out=tmp_path / "set")
    with pytest.raises(UserError, match="has 2 images, jpg, jpeg"):
        build(request)
    depth = dataclasses.replace(request, component="depth.PNG")
    assert build(depth).component == read_manifest(tmp_path / "set").component == "depth.png"
    with ShardSet.open(tmp_path / "set") as shards:
        pixels = np.asarray(Image.open(io.BytesIO(png)))
        assert np.array_equal(shards.read(np.arange(1))[0], pixels)
    identities = {
        plan(dataclasses.replace(depth, component=name)).identity
        for name in ("depth.png", "jpg", "jpeg")
    }
    assert len(identities) == 3


def test_tars_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "x.tar", [("1.jpg", JPG)])
    source = open_source("webdataset", tmp_path / "{a,b}/x.tar", "any")
    assert [source.name(i) for i in range(2)] == ["a/x.tar/1", "b/x.tar/1"]
    with pytest.raises(UserError, match=r"a/x\.tar: is named twice$"):
        open_source("webdataset", tmp_path / "{a,a}/x.tar", "any")


def test_a_label_that_is_no_label(tmp_path: Path, monkeypatch) -> None:
    deep = b"[" * 100_000
    path = write(tmp_path / "x.tar", [("1.jpg", JPG), ("1.json", deep)])
    with pytest.raises(UserError, match="sample '1': its json is damaged"):
        open_source("webdataset", path, "any")
    monkeypatch.setattr(webdataset_module, "MAX_LABEL_BYTES", 1000)
    with pytest.raises(UserError, match="sample '1': its json has 100,000 bytes"):
        open_source("webdataset", path, "any")


def test_compressed_tars(tmp_path: Path) -> None:
    for i in range(2):
        tar = cases.tar_bytes([(f"{i}.jpg", JPG), (f"{i}.cls", b"1")])
        (tmp_path / f"{i}.tar.gz").write_bytes(gzip.compress(tar))
    source = open_source("webdataset", tmp_path, "any")
    assert [source.name(i) for i in range(2)] == ["0.tar.gz/0", "1.tar.gz/1"]
    assert [source.read(i) for i in range(2)] == [JPG, JPG]


def test_more_tars_than_may_be_open(tmp_path: Path) -> None:
    for i in range(60):
        write(tmp_path / f"{i:03d}.tar", [(f"{i}.jpg", JPG)])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = max(map(int, os.listdir("/proc/self/fd")))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 20, limits[1]))
        source = open_source("webdataset", tmp_path, "any")
        assert all(source.read(i) == JPG for i in range(60))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder at a local URL; files with "cut" in their names are cut."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def copyfile(self, source: Any, outputfile: Any) -> None:
            data = source.read()
            outputfile.write(data[: len(data) // 2] if "cut" in self.path else data)

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with unittest.mock.patch.dict(os.environ, no_proxy="127.0.0.1"):
                yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_urls(tmp_path: Path) -> None:
    made = cases.write_webdataset(tmp_path / "remote")["train"]
    with served(tmp_path / "remote") as url:
        source = open_source("webdataset", f"{url}/shard-{{000..002}}.tar?x=1", "any")
    # The server has stopped, but the copies exist as long as the source does.
    assert [source.name(i) for i in range(len(source))] == made.names
    assert [source.read(i) for i in range(len(source))] == made.images
    assert source.labels.tolist() == made.labels  # type: ignore[union-attr]
    assert [path.read_bytes() for path in source.paths] == [
        path.read_bytes() for path in sorted((tmp_path / "remote").iterdir())
    ]
    # Copies have the same order, names and times whenever they are fetched.
    assert [path.name for path in source.paths] == [f"shard-{i:03d}.tar" for i in range(3)]
    assert {path.stat().st_mtime_ns for path in source.paths} == {0}
    folder = source.paths[0].parents[1]
    del source
    assert not folder.exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("{}/none.tar", "none.tar: cannot be fetched"),
        ("{}/cut.tar", "cut.tar: cannot be fetched"),
        ("strange://x/y.tar", "strange://x/y.tar: cannot be fetched"),
        ("file:///nowhere/y.tar", "file:///nowhere/y.tar: cannot be fetched"),
        ("{}/x-{{0..2.tar", "its braces are not balanced"),
    ],
)
def test_urls_that_cannot_be_fetched(tmp_path: Path, url: str, message: str) -> None:
    write(tmp_path / "cut.tar", [("1.jpg", JPG * 500)])
    with served(tmp_path) as root:
        with pytest.raises(UserError, match=message) as caught:
            open_source("webdataset", url.format(root), "any")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["..", ".", "", "%2e%2e", "x.tar"])
def test_a_url_does_not_say_where_its_copy_lies(tmp_path: Path, name: str, monkeypatch) -> None:
    data = cases.tar_bytes([("1.jpg", JPG)])
    monkeypatch.setattr(webdataset, "gopen", lambda url: io.BytesIO(data))
    source = open_source("webdataset", f"http://x/{name}?a=/../../b", "any")
    (path,) = source.paths
    assert path.is_relative_to(tempfile.gettempdir()) and path.read_bytes() == data
    assert source.read(0) == JPG


@pytest.mark.slow
def test_torch_is_not_needed_to_read_what_is_local() -> None:
    code = "import sys, shards.sources.registry; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
