"""Bundles, and a store that is filled with what one of them answers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.report.people import Reporting, fill_two, pack_people

Packed = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Bundles of each kind with their training data; each is made once."""
    folder = tmp_path_factory.mktemp("bundles")
    made: dict[str, tuple[Path, Path]] = {}

    def make(kind: str) -> tuple[Path, Path]:
        if kind not in made:
            made[kind] = pack_people(folder, kind)
        return made[kind]

    return make


@pytest.fixture
def two(packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reporting:
    """Predictions of two classes."""
    bundle, training = packed("two")
    store = str(tmp_path / "predictions.db")
    fill_two(store, bundle)
    return Reporting(bundle, training, store, monkeypatch)
