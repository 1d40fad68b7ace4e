"""The shared images that are found are those that plain loops over all pairs find."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from shards.errors import UserError, printable
from shards.overlap import main
from shards.reader import ShardSet
from shards.similarity import near_duplicates, near_pairs
from shards.similarity.near_duplicates import Limits, close_hashes
from shards.similarity.overlaps import Group, exclusions, find_overlaps
from tests.support.commands import run_command
from tests.support.image_sets import build_npy_set
from tests.support.shard_cases import assert_user_error, random_images

U64 = st.integers(0, 2**64 - 1)


def make_set(out: Path, images: np.ndarray, **fields: object) -> Path:
    """Build a set of images, uint8 [N,S,S,C]; the name of each image is its number."""
    return build_npy_set(out.parent, out.name, images, **{"shard_samples": 20, **fields})


def crops(count: int) -> list[Image.Image]:
    """Return pieces of 80 px of two photographs; they have nothing in common, and no plain sky."""
    pieces = []
    for photograph in map(Image.fromarray, load_sample_images().images):
        for top, left in itertools.product(range(0, 427 - 80, 80), range(0, 640 - 80, 80)):
            piece = photograph.crop((left, top, left + 80, top + 80))
            if np.asarray(piece).std() > 20:
                pieces.append(piece)
    assert len(pieces) >= count
    return pieces[:count]


def small(
    image: Image.Image, size_px: int = 32, rule: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    return image.resize((size_px, size_px), rule)


def brighter(image: Image.Image, factor: float) -> Image.Image:
    levels = np.rint(np.asarray(image) * factor).clip(0, 255)
    return Image.fromarray(levels.astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert(image.mode)


def stack(images: Sequence[Image.Image]) -> np.ndarray:
    """Stack images of one size: uint8 [N,S,S,C]."""
    pixels = np.stack([np.asarray(image) for image in images])
    return pixels if pixels.ndim == 4 else pixels[..., None]


def flat(count: int, size_px: int = 32, channels: int = 3) -> np.ndarray:
    """Make images of one colour each; neighbours have similar colours: uint8 [count,S,S,C]."""
    levels = (np.arange(count) * 3 % 256).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, size_px, size_px, channels)).copy()


def as_pillow(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def expected_pairs(a: np.ndarray, b: np.ndarray, max_bits: int, max_levels: float) -> dict:
    """Compare all images: (number in a, number in b) -> (kind, bits, levels)."""
    found = {}
    for (i, one), (j, other) in itertools.product(enumerate(a), enumerate(b)):
        digests = [hashlib.sha256(x.tobytes()).digest() for x in (one, other)]
        if one.shape == other.shape and digests[0] == digests[1]:
            found[i, j] = "exact", 0, 0.0
            continue
        images = as_pillow(one), as_pillow(other)
        bits = imagehash.phash(images[0]) - imagehash.phash(images[1])
        if bits > max_bits:
            continue
        if "L" in (images[0].mode, images[1].mode):
            images = images[0].convert("L"), images[1].convert("L")
        size_px = min(images[0].width, images[1].width)
        levels = [
            np.asarray(x if x.width == size_px else small(x, size_px)).astype(int) for x in images
        ]
        distance = float(np.abs(levels[0] - levels[1]).mean())
        if distance <= max_levels:
            found[i, j] = "near", int(bits), round(distance, 2)
    return found


def expected_groups(pairs: dict) -> dict:
    """Compute the result of `as_told` from all pairs: near pairs join their images one by one."""
    found = {}
    for kind in ("exact", "near"):
        of_kind = {pair: facts[1:] for pair, facts in pairs.items() if facts[0] == kind}
        joined: list[tuple[set, set]] = []
        for i, j in of_kind:
            touched = [one for one in joined if i in one[0] or j in one[1]]
            joined = [one for one in joined if one not in touched]
            joined.append(
                ({i}.union(*(a for a, _ in touched)), {j}.union(*(b for _, b in touched)))
            )
        for a, b in joined:
            within = [of_kind[pair] for pair in itertools.product(a, b) if pair in of_kind]
            bits, levels = min(within, key=lambda facts: facts[::-1])
            found[kind, frozenset(a), frozenset(b)] = bits, pytest.approx(levels, abs=0.011)
    return found


def as_told(groups: Sequence[Group]) -> dict:
    """Read groups: (kind, numbers in a, numbers in b) -> (bits, levels); numbers are names."""
    found = {}
    for one in groups:
        numbers = (frozenset(map(int, names)) for names in (one.a_names, one.b_names))
        found[one.kind, *numbers] = one.hash_bits, one.pixel_levels
    assert len(found) == len(groups)
    return found


def found_groups(directories: Sequence[Path], limits: Limits | None = None, **options: int) -> list:
    return [list(found.groups()) for found in find_overlaps(directories, limits, **options)]


def photographs_and_more(size_px: int, channels: int, seed: int) -> np.ndarray:
    """Make randomly altered photographs, noise and plain images, some of them more than once."""
    rng = np.random.default_rng(seed)
    images = []
    for piece in crops(24):
        image = small(piece.convert("L" if channels == 1 else "RGB"), size_px)
        change = rng.integers(5)
        if change == 1:
            image = jpeg(image, int(rng.integers(50, 96)))
        if change == 2:
            image = brighter(image, float(rng.uniform(0.9, 1.1)))
        if change == 3:
            image = small(image, size_px + int(rng.integers(1, 9))).crop((0, 0, size_px, size_px))
        images.append(image)
    noise = random_images(4, size_px, channels, seed)
    pixels = np.concatenate([stack(images), noise, flat(6, size_px, channels)])
    return pixels[rng.integers(0, len(pixels), len(pixels) + 12)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((32, 3), (32, 3)), ((40, 3), (32, 3)), ((28, 1), (32, 3)), ((32, 1), (32, 1))],
)
@pytest.mark.parametrize("limits", [Limits(), Limits(20, 30.0), Limits(64, 5.0)], ids=str)
def test_groups_are_those_of_brute_force(tmp_path, monkeypatch, a_shape, b_shape, limits) -> None:
    monkeypatch.setattr(near_duplicates, "TILE_ROWS", 7)
    monkeypatch.setattr(near_duplicates, "TILE_COLUMNS", 5)
    monkeypatch.setattr(near_duplicates, "BLOCK_BYTES", 3 * 40 * 40 * 3)
    monkeypatch.setattr(near_pairs, "HELD_PAIRS", 4)
    a, b = photographs_and_more(*a_shape, seed=1), photographs_and_more(*b_shape, seed=2)
    paths = [make_set(tmp_path / "a", a, seed=5), make_set(tmp_path / "b", b, seed=6)]
    (groups,) = found_groups(paths, limits)
    pairs = expected_pairs(a, b, limits.max_hash_bits, limits.max_pixel_levels)
    assert as_told(groups) == expected_groups(pairs)
    assert {group.kind for group in groups} >= {"near"}
    for path, side in zip(paths, "ab", strict=True):
        names = ShardSet.open(path).names()
        for group in groups:
            assert getattr(group, side) == side
            ids = getattr(group, f"{side}_ids")
            assert ids == sorted(set(ids))
            assert [names[i] for i in ids] == getattr(group, f"{side}_names")


def test_counts_and_samples_are_those_of_the_groups(tmp_path) -> None:
    a, b = photographs_and_more(32, 3, seed=3), photographs_and_more(32, 3, seed=4)
    paths = [make_set(tmp_path / "a", a), make_set(tmp_path / "b", b)]
    (found,) = find_overlaps(paths)
    groups = list(found.groups())
    kinds = [group.kind for group in groups]
    assert (found.count("exact"), found.count("near")) == (
        kinds.count("exact"),
        kinds.count("near"),
    )
    assert min(found.count("exact"), found.count("near")) > 0
    a_ids, b_ids = found.sample_ids()
    assert a_ids.tolist() == sorted({i for group in groups for i in group.a_ids})
    assert b_ids.tolist() == sorted({i for group in groups for i in group.b_ids})


@given(st.lists(U64, max_size=12), st.lists(U64, max_size=12), st.integers(0, 64))
def test_close_hashes_are_those_with_few_differing_bits(rows, columns, max_bits) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "TILE_COLUMNS", 5)
        # Altered copies of the rows, so that small distances occur.
        columns = columns + [row ^ 7 << i for i, row in enumerate(rows)]
        found = {}
        arrays = np.array(rows, np.uint64), np.array(columns, np.uint64)
        for tile in close_hashes(*arrays, max_bits):
            for row, column, bits in zip(*(part.tolist() for part in tile), strict=True):
                assert (row, column) not in found
                found[row, column] = bits
    expected = {
        (i, j): (row ^ column).bit_count()
        for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns))
        if (row ^ column).bit_count() <= max_bits
    }
    assert found == expected


def test_the_order_of_the_sets_and_the_threads_change_nothing(tmp_path) -> None:
    sizes = {"a": 20, "b": 36, "c": 11}
    paths = {
        name: make_set(tmp_path / name, photographs_and_more(32, 3, seed=i)[:size])
        for i, (name, size) in enumerate(sizes.items())
    }
    results = []
    for order, workers in zip(itertools.permutations("abc"), (1, 2, 3, 1, 2, 3), strict=True):
        overlaps = find_overlaps([paths[name] for name in order], workers=workers)
        assert [(o.a.title, o.b.title) for o in overlaps] == list(itertools.combinations(order, 2))
        both = set()
        for group in itertools.chain.from_iterable(o.groups() for o in overlaps):
            sides = frozenset(
                (title, tuple(zip(ids, names, strict=True)))
                for title, ids, names in (
                    (group.a, group.a_ids, group.a_names),
                    (group.b, group.b_ids, group.b_names),
                )
            )
            both.add((sides, group.kind, group.hash_bits, group.pixel_levels))
        lists = [exclusions(overlaps, name) for name in "abc"]
        results.append((both, lists))
    assert all(result == results[0] for result in results)
    assert len(results[0][0]) > 10


def altered(image: Image.Image) -> dict[str, Image.Image]:
    """Make copies of a photograph that are stored in other ways, at 32 px."""
    resampling = Image.Resampling
    return {
        "bilinear": small(image, 32, resampling.BILINEAR),
        "via 64 px": small(small(image, 64)),
        "jpeg 50 of the original": small(jpeg(image, 50)),
        "jpeg 95 at 32 px": jpeg(small(image), 95),
        "crop by 1 %": image.resize((32, 32), resampling.BICUBIC, box=(0.4, 0.4, 79.6, 79.6)),
    }


@pytest.mark.parametrize("change", altered(Image.new("RGB", (80, 80))))
def test_altered_photographs_are_found_at_the_defaults(tmp_path, change) -> None:
    pieces = crops(50)
    a = make_set(tmp_path / "a", stack([small(piece) for piece in pieces]))
    b = make_set(tmp_path / "b", stack([altered(piece)[change] for piece in pieces]))
    (groups,) = found_groups([a, b])
    assert all(len(group.a_ids) == 1 and group.a_names == group.b_names for group in groups)
    assert len(groups) >= 45


def test_photographs_are_found_in_gray_and_in_another_size(tmp_path) -> None:
    pieces = crops(50)
    a = make_set(tmp_path / "a", stack([small(piece, 48) for piece in pieces]))
    b = make_set(tmp_path / "b", stack([small(piece.convert("L")) for piece in pieces]))
    (groups,) = found_groups([a, b])
    assert all(len(group.a_ids) == 1 and group.a_names == group.b_names for group in groups)
    assert {group.kind for group in groups} == {"near"} and len(groups) >= 48


def test_encodings_do_not_matter(tmp_path) -> None:
    images = stack([small(piece) for piece in crops(30)])
    raw = make_set(tmp_path / "raw", images, encoding="raw")
    png = make_set(tmp_path / "png", images, encoding="png", seed=1)
    jpg = make_set(tmp_path / "jpg", images, encoding="jpg", seed=2)
    for found, kind in zip(found_groups([raw, png, jpg]), ["exact", "near", "near"], strict=True):
        assert sorted(group.a_names for group in found) == sorted([str(i)] for i in range(30))
        assert {group.kind for group in found} == {kind}
        assert all(group.a_names == group.b_names for group in found)
        ids = [group.a_ids for group in found]
        assert ids == sorted(ids)


def test_one_level_of_one_pixel_makes_images_unequal(tmp_path) -> None:
    image = stack([small(crops(1)[0])])
    places = [0, 1, 1500, 32 * 32 * 3 - 1]
    changed = np.repeat(image, len(places) + 1, axis=0)
    for row, place in zip(changed, places, strict=False):
        row.reshape(-1)[place] ^= 1
    (groups,) = found_groups([make_set(tmp_path / "a", image), make_set(tmp_path / "b", changed)])
    assert {group.kind: set(map(int, group.b_names)) for group in groups} == {
        "near": set(range(len(places))),
        "exact": {len(places)},
    }


def test_what_is_documented_as_not_found_is_not(tmp_path) -> None:
    pieces = crops(50)
    a = make_set(tmp_path / "a", stack([small(piece) for piece in pieces]))
    mirrored = [small(p).transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in pieces]
    b = make_set(tmp_path / "b", stack(mirrored))
    assert found_groups([a, b]) == [[]]


def count_compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of pairs in each comparison of pixels."""
    held: list[int] = []
    levels_of = near_duplicates.pixel_levels

    def counted(a, b, a_ids, b_ids) -> np.ndarray:
        held.append(len(a_ids))
        return levels_of(a, b, a_ids, b_ids)

    monkeypatch.setattr(near_duplicates, "pixel_levels", counted)
    return held


@pytest.mark.slow
def test_plain_images_are_compared_some_at_a_time(tmp_path, monkeypatch) -> None:
    """All have the same hash; no more pixels than those of a block are held."""
    monkeypatch.setattr(near_duplicates, "BLOCK_BYTES", 50 * 8 * 8 * 3)
    held = count_compared(monkeypatch)
    a, b = flat(80, 8), flat(60, 8) + 1
    paths = [make_set(tmp_path / "a", a), make_set(tmp_path / "b", b)]
    (groups,) = found_groups(paths)
    assert sum(held) == 80 * 60 and max(held) == 50
    assert as_told(groups) == expected_groups(expected_pairs(a, b, 10, 8.0))


def test_equal_images_of_a_set_are_compared_once(tmp_path, monkeypatch) -> None:
    held = count_compared(monkeypatch)
    a = np.concatenate([np.repeat(flat(1), 300, axis=0), flat(2)[1:]])
    b = np.repeat(flat(1) + 2, 200, axis=0)
    (found,) = find_overlaps([make_set(tmp_path / "a", a), make_set(tmp_path / "b", b)])
    assert sum(held) == 2
    (group,) = found.groups()
    assert (group.kind, len(group.a_ids), len(group.b_ids)) == ("near", 301, 200)


def test_what_is_written_grows_with_the_samples_and_not_with_their_pairs(tmp_path) -> None:
    """The file stays short for equal images, and for images that are all near each other."""
    for kind, images in (("exact", np.zeros((60, 8, 8, 3), np.uint8)), ("near", flat(60, 8) // 9)):
        sizes = []
        for count in (30, 60):
            a, b = images[:count], images[:count] + (kind == "near")
            folder = tmp_path / f"{kind}{count}"
            folder.mkdir()
            paths = [str(make_set(folder / name, made)) for name, made in (("a", a), ("b", b))]
            main([*paths, "--out", str(folder / "groups.jsonl")])
            lines = [g for g in read_lines(folder / "groups.jsonl") if g["kind"] == kind]
            assert sum(len(line["a_ids"]) for line in lines) == count
            sizes.append((folder / "groups.jsonl").stat().st_size)
        assert sizes[1] < 2.5 * sizes[0]


@pytest.mark.slow
def test_of_many_near_pairs_few_are_held(tmp_path, monkeypatch) -> None:
    """All pictures of one camera are near; the closest pair of each is still the right one."""
    monkeypatch.setattr(near_pairs, "HELD_PAIRS", 100)
    held = []
    thin = near_pairs.NearPairs.thin

    def counted(self) -> None:
        held.append(len(self.pairs()))
        thin(self)

    monkeypatch.setattr(near_pairs.NearPairs, "thin", counted)
    monkeypatch.setattr(near_duplicates, "BLOCK_BYTES", 20 * 32 * 32 * 3)
    piece = max(crops(24), key=lambda piece: np.asarray(piece).std())
    scene = stack([small(piece)]).astype(int)
    rng = np.random.default_rng(0)
    a, b = (
        (scene + rng.integers(-2, 3, (count, 32, 32, 3))).clip(0, 255).astype(np.uint8)
        for count in (40, 50)
    )
    paths = [make_set(tmp_path / "a", a), make_set(tmp_path / "b", b)]
    overlaps = find_overlaps(paths)
    assert as_told(list(overlaps[0].groups())) == expected_groups(expected_pairs(a, b, 10, 8.0))
    assert max(held) < 100 + 3 * 90 + 20 < 40 * 50
    distances = np.abs(a[:, None].astype(int) - b[None]).mean(axis=(2, 3, 4)).round(2)
    for title, closest in (("a", distances.min(axis=1)), ("b", distances.min(axis=0))):
        lines = exclusions(overlaps, title)
        assert len(lines) == len(closest)
        for line in lines:
            pair = [int(line["name"]), int(line["with_name"])]
            own, other = pair if title == "a" else pair[::-1]
            assert distances[own, other] == closest[int(line["name"])]


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_the_command_writes_the_groups_and_the_exclusion_list(
    tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    sets = {
        name: make_set(tmp_path / name, photographs_and_more(32, 3, seed=i), seed=i)
        for i, name in enumerate(("aux", "test", "other"))
    }
    out, excluded = tmp_path / "new" / "groups.jsonl", tmp_path / "shared.jsonl"
    aux = tmp_path / "other" / ".." / "aux"
    options = ["--out", out, "--exclude-from", aux, "--exclude-list", excluded]
    main([str(argument) for argument in [*sets.values(), *options]])

    groups = read_lines(out)
    assert groups == [vars(g) for found in found_groups(list(sets.values())) for g in found]
    fields = "kind a a_ids a_names b b_ids b_names hash_bits pixel_levels"
    assert list(groups[0]) == fields.split()
    shown = capsys.readouterr().out
    for a, b in itertools.combinations(sets, 2):
        here = [group for group in groups if (group["a"], group["b"]) == (a, b)]
        kinds = [group["kind"] for group in here]
        samples = [len({i for group in here for i in group[f"{side}_ids"]}) for side in "ab"]
        rows = [[cell.strip() for cell in line.split("│")[1:7]] for line in shown.splitlines()]
        (row,) = [row for row in rows if row[:2] == [a, b]]
        assert row[2:] == [
            str(kinds.count("exact")),
            str(kinds.count("near")),
            *(f"{count} of 46" for count in samples),
        ]

    lines = read_lines(excluded)
    pairs = [
        (own, levels, bits, kind, title, other)
        for title, seed in (("test", 1), ("other", 2))
        for (own, other), (kind, bits, levels) in expected_pairs(
            photographs_and_more(32, 3, seed=0), photographs_and_more(32, 3, seed=seed), 10, 8.0
        ).items()
    ]
    assert [line["name"] for line in lines] == sorted({str(own) for own, *_ in pairs})
    for line in lines:
        own = [pair[1:] for pair in pairs if pair[0] == int(line["name"])]
        closest = min(own)[:4]
        assert (line["kind"], line["with"]) == closest[2:]
        assert int(line["with_name"]) in [pair[4] for pair in own if pair[:4] == closest]
    assert {line["kind"] for line in lines} == {"exact", "near"}
    assert {line["with"] for line in lines} == {"test", "other"}


def test_a_set_that_is_built_with_the_list_shares_nothing(tmp_path) -> None:
    a, b = photographs_and_more(32, 3, seed=1), photographs_and_more(32, 3, seed=2)
    paths = [make_set(tmp_path / "a", a), make_set(tmp_path / "b", b)]
    excluded = tmp_path / "list.jsonl"
    main([*map(str, paths), "--exclude-from", str(paths[1]), "--exclude-list", str(excluded)])
    again = make_set(tmp_path / "again", b, exclude=excluded)
    assert len(ShardSet.open(again)) == len(b) - len(read_lines(excluded)) < len(b)
    assert found_groups([paths[0], again]) == [[]]


def test_sets_of_one_name_are_told_by_their_paths(tmp_path) -> None:
    paths = []
    for i, parent in enumerate(("one", "two")):
        (tmp_path / parent).mkdir()
        paths.append(make_set(tmp_path / parent / "test", photographs_and_more(32, 3, seed=i)))
    paths.append(make_set(tmp_path / "aux", photographs_and_more(32, 3, seed=2)))
    titles = {(group.a, group.b) for found in found_groups(paths) for group in found}
    one, two = map(str, paths[:2])
    assert titles == {(one, two), (one, "aux"), (two, "aux")}


def test_mistakes_are_one_line(tmp_path) -> None:
    a = make_set(tmp_path / "a", random_images(3))
    b = make_set(tmp_path / "b", random_images(3, seed=1))
    copy = make_set(tmp_path / "copy", random_images(3), name="a", src=tmp_path / "a.npy")
    there = tmp_path / "there"
    there.write_text("mine")
    new = tmp_path / "new"
    for argv, words in (
        ([], ["0 shard sets", "two or more"]),
        ([a], ["1 shard sets", "two or more"]),
        ([a, b, a], [str(a), "the same set"]),
        ([a, copy], [str(copy), "the same set"]),
        ([a, tmp_path / "none"], ["none", "no such folder"]),
        ([a, b, "--exclude-from", copy, "--exclude-list", new], ["exclude_from", str(copy)]),
        ([a, b, "--exclude-from", a], ["go together"]),
        ([a, b, "--exclude-list", new], ["go together"]),
        # The error comes before anything is compared.
        ([a, "none", "--out", there], ["there", "exists already"]),
        ([a, "none", "--exclude-from", a, "--exclude-list", there], ["there", "exists already"]),
        ([a, b, "--exclude-from", a, "--exclude-list", new, "--out", new], ["are both", str(new)]),
        ([a, b, "--max-hash-bits", "65"], ["max_hash_bits is 65"]),
        ([a, b, "--max-hash-bits", "-1"], ["max_hash_bits is -1"]),
        ([a, b, "--max-pixel-levels", "nan"], ["max_pixel_levels is nan"]),
        ([a, b, "--workers", "0"], ["workers is 0"]),
    ):
        with pytest.raises(UserError) as caught:
            main([str(argument) for argument in argv])
        message = str(caught.value)
        assert "\n" not in message and all(word in message for word in words), message
    assert there.read_text() == "mine" and not new.exists()


@pytest.mark.slow
def test_the_command_as_a_process(tmp_path) -> None:
    a = make_set(tmp_path / "a", random_images(3))
    b = make_set(tmp_path / "b", random_images(3)[:2], seed=1)
    result = run_command("-m", "shards.overlap", a, b)
    assert result.returncode == 0 and "2 of 3" in result.stdout, result
    assert_user_error(run_command("-m", "shards.overlap", a, a), "the same set")


def test_without_the_package_of_the_hash(tmp_path, monkeypatch) -> None:
    """The command line is parsed all the same, because nothing imports the package earlier."""
    assert "imagehash" not in vars(near_duplicates)
    monkeypatch.setitem(sys.modules, "imagehash", None)
    a = make_set(tmp_path / "a", random_images(3))
    b = make_set(tmp_path / "b", random_images(2), seed=1)
    told = r"^imagehash is not installed: .* pip install -e \.\[overlap\]$"
    with pytest.raises(UserError, match=told):
        main([str(a), str(b), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable("größe [b] a.png") == "größe [b] a.png"
    assert printable("a\x1b[2J\nb\udcff") == "a\\x1b[2J\\nb\\udcff"
    assert printable("\u202e") == "\\u202e"
