"""The template is made once; each test has a copy of its own."""

import shutil
from pathlib import Path

import pytest
from tiny_template import make_template


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the template that tests copy."""
    return make_template(tmp_path_factory.mktemp("original") / "template")


@pytest.fixture
def template(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "template")
