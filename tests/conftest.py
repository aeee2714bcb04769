"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.run import Run
from tests.bad_input import RAN_HERE
from tests.faults import Workshop
from tests.tiny_benchmark import TinyProject, make_project
from tests.tiny_run import begin_run

# The fixtures of projects on which tests train or judge.
PROJECTS = {"project", "pretrained", "workshop", "reported", "calibrated", "to_judge"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what runs whole stages; puts launches first, so that none is waited for in the end."""
    for item in items:
        if PROJECTS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("pipeline")
    items.sort(key=lambda item: item.get_closest_marker("launch") is None)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Notes what ran in this process: with xdist it need not be all of a file."""
    RAN_HERE.add(item.nodeid)


@pytest.fixture
def project(tmp_path: Path) -> TinyProject:
    """A fresh tiny project: data, language model, config."""
    return make_project(tmp_path)


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyProject, Path]:
    """A tiny project with one pretrained model, for tests that only read it."""
    shared = make_project(tmp_path_factory.mktemp("pretrained"))
    return shared, shared.launch("pretrain.py").result


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Where stages are interrupted; they share what was never interrupted."""
    return Workshop.open(tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that has begun, in this process."""
    return begin_run(tmp_path)
