"""Members of tars are the bytes that `tarfile` writes."""

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.format.tar import END, blank_members, member_headers, members, sample_key
from tests.support.shard_cases import random_images


@given(
    st.lists(st.tuples(st.integers(0, 10**9 - 1), st.integers(0, 8**11 - 1)), min_size=1),
    st.sampled_from(["bin", "cls", "jpg"]),
)
def test_headers_are_tarfiles(rows, extension: str) -> None:
    keys, sizes = np.array(rows, np.int64).T
    for header, (key, size) in zip(member_headers(keys, extension, sizes), rows, strict=True):
        info = tarfile.TarInfo(f"{key:09d}.{extension}")
        info.size, info.mode, info.mtime = size, 0o644, 0
        assert header.tobytes() == info.tobuf(tarfile.USTAR_FORMAT)
        assert info.name == f"{sample_key(key)}.{extension}"


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_members_hold_their_data(size: int) -> None:
    data = random_images(3, size_px=23).reshape(3, -1)[:, :size]
    keys = np.array([4, 7, 123_456_789])
    whole, blank = blank_members(keys, "bin", size)
    blank[:] = data
    rows = [row.tobytes() for row in whole]
    assert rows == members(keys, "bin", [row.tobytes() for row in data])
    with tarfile.open(fileobj=io.BytesIO(b"".join(rows) + END)) as tar:
        assert tar.getnames() == ["000000004.bin", "000000007.bin", "123456789.bin"]
        assert [tar.extractfile(m).read() for m in tar] == [row.tobytes() for row in data]
