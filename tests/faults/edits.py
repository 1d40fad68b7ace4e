"""Indexes and manifests that cannot be true of the tars beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK_BYTES = 512
SAME_BLOCKS = " (as many blocks)"


def index_edits(text: str, tar_bytes: int) -> Iterator[tuple[str, str | bytes]]:
    """Texts that differ from an index in one thing."""
    numbers = [
        -1,
        -512,
        0,
        1,
        511,
        tar_bytes,
        tar_bytes + 1,
        2**31,
        2**32 + 512,
        2**63 - 1,
        2**63,
        2**64,
        2**64 + 512,
        10**30,
    ]
    found = list(re.finditer(r"(?<= )\d+(?= |$)", text, re.MULTILINE))  # count, offset, size, ...
    for i, match in enumerate(found[:9]):
        for number in [*numbers, int(match[0]) + 512, int(match[0]) - 512]:
            if number != int(match[0]):
                blocks = {-(-size // BLOCK_BYTES) for size in (number, int(match[0]))}
                same = SAME_BLOCKS if i % 2 == 0 and i and len(blocks) == 1 else ""
                yield (
                    f"{match[0]} at {match.start()} is {number}{same}",
                    text[: match.start()] + str(number) + text[match.end() :],
                )
        for strange in (
            f"0{match[0]}",
            f"+{match[0]}",
            "nan",
            "1e3",
            "0x10",
            "",
            "\u0663",
            "\u00b2",
        ):
            yield (
                f"{match[0]} at {match.start()} is {strange!r}",
                text[: match.start()] + strange + text[match.end() :],
            )
    lines = text.splitlines(keepends=True)
    yield "a line lost", "".join(lines[:2] + lines[3:])
    yield "a line lost, and the count", "".join([_counted(lines, -1), *lines[1:-1]])
    yield "the first line lost, and the count", "".join([_counted(lines, -1), *lines[2:]])
    yield "a line twice", "".join([*lines, lines[-1]])
    yield "a line twice, and the count", "".join([_counted(lines, 1), *lines[1:], lines[-1]])
    yield "two lines swapped", "".join([lines[0], lines[2], lines[1], *lines[3:]])
    yield "no lines", "v1.2 0\n"
    yield "another version", text.replace("v1.2", "v1.1", 1)
    yield "another key", re.sub(r"\d{9}\.", "999999999.", text, count=1)
    yield "a key of fewer digits", re.sub(r"\d(\d{8}\.)", r"\1", text, count=1)
    yield "another extension", re.sub(r"^\w+ ", "exe ", text, count=2, flags=re.MULTILINE)
    yield "other line ends", text.replace("\n", "\r\n")
    yield "two spaces", text.replace(" ", "  ", 3)
    yield "tabs", text.replace(" ", "\t")
    yield "a space at the end", text[:-1] + " \n"
    yield "a blank line", text + "\n"
    yield "a zero byte", text.encode() + b"\0"
    yield "not UTF-8", b"\xff\xfe" + text.encode()
    yield "binary", bytes(range(256)) * 10


def _counted(lines: list[str], more: int) -> str:
    return f"v1.2 {len(lines) - 1 + more}\n"


def signed_edits(fields: dict[str, Any], out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Manifests that cannot be true of the files beside them."""

    def first_shard(**changes: object) -> dict[str, Any]:
        shards = [{**fields["shards"][0], **changes}, *fields["shards"][1:]]
        return {**fields, "shards": shards}

    shards = fields["shards"]
    for name in ("format_version", "samples", "height_px", "width_px", "shard_samples"):
        for value in (fields[name] + 1, 0, -1, str(fields[name]), float(fields[name])):
            if name == "shard_samples" and value == fields[name] + 1:
                continue
            # A set of encoded images does not say of what size they are: the reader will.
            if name in ("height_px", "width_px") and fields["encoding"] != "raw":
                if isinstance(value, int) and value > 0:
                    continue
            yield f"{name} = {value!r}", {**fields, name: value}
    yield "a shard lost", {**fields, "shards": shards[:-1]}
    less = fields["samples"] - shards[-1]["samples"]
    yield "a shard twice", {**fields, "shards": [*shards, shards[-1]]}
    more = fields["samples"] + shards[-1]["samples"]
    yield (
        "a shard twice, and counted",
        {**fields, "shards": [*shards, shards[-1]], "samples": more},
    )
    yield "a shard lost, and counted", {**fields, "shards": shards[:-1], "samples": less}
    yield "shards in another order", {**fields, "shards": shards[::-1]}
    yield "no shards", {**fields, "shards": [], "samples": 0}
    yield "another encoding", {**fields, "encoding": "png"}
    yield "no encoding", {**fields, "encoding": "exe"}
    yield "four channels", {**fields, "channels": 4}
    yield "another name", {**fields, "name": "other"}
    yield "other names", {**fields, "names_sha256": "0" * 64}
    classes = [] if fields["classes"] else ["cat"]
    yield "labels that are not there, or none", {**fields, "classes": classes}
    for file in ("../x.tar", str(out / shards[0]["file"]), "", ".", "..", "x.zip", "nowhere.tar"):
        yield f"file {file!r}", first_shard(file=file)
    yield "file of another shard", first_shard(file=shards[1]["file"])
    for name in ("samples", "bytes"):
        for value in (shards[0][name] + 1, shards[0][name] - 1, -1, 0, 10**30):
            yield f"{name} of a shard = {value}", first_shard(**{name: value})
    yield "another digest of an index", first_shard(idx_sha256="0" * 64)
