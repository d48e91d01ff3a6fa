"""The files of a small specification, and a copy of them for each module."""

from __future__ import annotations

import shutil

import pytest
from small_ablation import write_world


@pytest.fixture(scope="session")
def small_world(tmp_path_factory, tiny_model):
    """Files of a small specification, with its model in ``model/``."""
    folder = write_world(tmp_path_factory.mktemp("ablate") / "world", "model")
    shutil.copytree(tiny_model, folder / "model")
    return folder


@pytest.fixture(scope="module")
def world(small_world, tmp_path_factory):
    """A copy of it."""
    return shutil.copytree(small_world, tmp_path_factory.mktemp("copy") / "world")
