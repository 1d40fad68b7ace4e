"""An index is the text that DALI's own tool writes, and is parsed strictly."""

from pathlib import Path

import numpy as np
import pytest
import wds2idx
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UserError
from shards.format.index import Component, Index, format_index, parse_index
from tests.support.shard_cases import npy_set, sample_set

TEXT = (
    "v1.2 2\n"
    "bin 512 12 000000004.bin cls 1536 1 000000004.cls\n"
    "bin 2560 12 000000007.bin cls 3584 1 000000007.cls\n"
)


@pytest.mark.parametrize("make", [lambda folder: npy_set(folder), lambda f: sample_set(f / "set")])
def test_equals_what_dalis_tool_writes(tmp_path: Path, make) -> None:
    directory = make(tmp_path)
    tars = sorted(directory.glob("*.tar"))
    assert len(tars) == 3
    for tar in tars:
        with wds2idx.IndexCreator(str(tar), str(tmp_path / "own.idx"), verbose=False) as creator:
            creator.create_index()
        assert (tmp_path / "own.idx").read_text() == tar.with_suffix(".idx").read_text()


def test_parse() -> None:
    index = parse_index(TEXT, "x.idx")
    assert index.keys.tolist() == [4, 7]
    assert list(index.components) == ["bin", "cls"]
    images, labels = index.components.values()
    assert images.offsets.dtype == images.sizes.dtype == index.keys.dtype == np.int64
    assert images.offsets.tolist() == [512, 2560]
    assert labels.offsets.tolist() == [1536, 3584]
    assert (images.sizes.tolist(), labels.sizes.tolist()) == ([12, 12], [1, 1])


places = st.tuples(st.integers(0, 10**17), st.integers(0, 10**17))
keys = st.integers(0, 10**9 - 1)


@given(st.lists(st.tuples(places, places, keys), min_size=1, max_size=9))
def test_what_is_written_is_read_back(rows) -> None:
    index = Index(
        np.array([row[2] for row in rows], np.int64),
        {
            extension: Component(
                np.array([row[i][0] for row in rows], np.int64),
                np.array([row[i][1] for row in rows], np.int64),
            )
            for i, extension in enumerate(("bin", "cls"))
        },
    )
    again = parse_index(format_index(index), "x.idx")
    assert np.array_equal(again.keys, index.keys)
    assert list(again.components) == ["bin", "cls"]
    for extension, component in index.components.items():
        assert np.array_equal(again.components[extension].offsets, component.offsets)
        assert np.array_equal(again.components[extension].sizes, component.sizes)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("v1.2", "v1.1", 1),
        ("v1.2 2", "v1.2 3", 1),
        ("v1.2 2", "v1.2 1", 1),
        ("v1.2 2", "v1.2 -2", 1),
        ("2560", "-2560", 3),
        ("2560", "2560.0", 3),
        ("2560", "٢", 3),  # A digit that is not ASCII.
        ("2560", "1" * 30, 3),
        ("bin 2560", "png 2560", 3),
        (" cls 3584 1 000000007.cls", "", 3),
        ("bin 512 12 000000004.bin", "bin 512 12", 2),
        ("cls 1536", "bin 1536", 2),
        ("7.cls\n", "7.cls", 3),
        ("7.bin", "7\x00 .bin", 3),
        ("7.bin", "8.bin", 3),
        ("000000007.bin", "00000007.bin", 3),
        ("bin 2560", "bin 02560", 3),
        ("12 000000007", "12  000000007", 3),
    ],
)
def test_malformed_text_names_file_and_line(old: str, new: str, line: int) -> None:
    assert old in TEXT
    with pytest.raises(UserError, match=rf"^folder/x\.idx, line {line}: "):
        parse_index(TEXT.replace(old, new, 1), "folder/x.idx")


@pytest.mark.parametrize("cut", range(len(TEXT)))
def test_every_cut_is_refused(cut: int) -> None:
    with pytest.raises(UserError, match="x.idx, line"):
        parse_index(TEXT[:cut], "x.idx")
