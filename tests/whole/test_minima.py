"""The declared minima: stated, tried together by `make minima`, and of all that is imported."""

from __future__ import annotations

import json
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.minima import BORROWED, SEEN, declared, minima, minimum
from tests.support.paths import ROOT
from tests.whole.test_import_rules import imported_modules

FOLDERS = ("shards", "dali_pipes", "train", "eval", "benchmarks", "tests")
OPTIONAL = {"apex"}
"""Built from source by who wants it."""


def test_every_requirement_states_a_minimum() -> None:
    assert len(declared()) > 20
    for name, requirement in declared().items():
        assert Version(minimum(requirement)) > Version("0"), name


def test_the_minima_are_those_that_were_tried_together() -> None:
    seen = json.loads(SEEN.read_text())
    tried = {name: Version(facts["version"]) for name, facts in seen.items()}
    stated = {name: Version(version) for name, version in minima().items()}
    assert tried == stated, "setup.py changed: run `make minima`, which writes what it tried"


def test_no_minimum_asks_for_more_than_another_one() -> None:
    asks = {name: facts["asks"] for name, facts in json.loads(SEEN.read_text()).items()}
    for name in BORROWED:
        try:
            asks[name] = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
    compared = 0
    for name, needs in asks.items():
        for need in map(Requirement, needs):
            other = canonicalize_name(need.name)
            if other in minima() and (need.marker is None or need.marker.evaluate({"extra": ""})):
                assert minima()[other] in need.specifier, f"{name} needs {need}"
                compared += bool(need.specifier)
    assert compared > 10


def test_what_is_installed_is_allowed() -> None:
    for name, requirement in declared().items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            assert name in BORROWED, name
        else:
            assert version in requirement.specifier, name


@pytest.mark.slow
def test_whatever_is_imported_is_declared() -> None:
    distributions = metadata.packages_distributions()
    declared_names = declared().keys()
    known = {*sys.stdlib_module_names, *FOLDERS, *OPTIONAL}
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for module in {module.split(".")[0] for module in imported_modules(path)} - known:
            names = {canonicalize_name(name) for name in distributions.get(module, ())}
            assert names & declared_names, f"{path}: {module} is not in setup.py"
