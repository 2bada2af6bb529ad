"""Bundles, and a store that is filled with what one of them answers."""

from pathlib import Path

import pytest

from tests.helpers.report_cases import PackPeople, ReportCase, pack_people, store_two_classes


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackPeople:
    """Bundles of each kind with their training data; each is made once."""
    folder = tmp_path_factory.mktemp("bundles")
    made: dict[str, tuple[Path, Path]] = {}

    def make(kind: str) -> tuple[Path, Path]:
        if kind not in made:
            made[kind] = pack_people(folder, kind)
        return made[kind]

    return make


@pytest.fixture
def two(packed: PackPeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReportCase:
    """Predictions of two classes."""
    bundle, training = packed("two")
    store = str(tmp_path / "predictions.db")
    store_two_classes(store, bundle)
    return ReportCase(bundle, training, store, monkeypatch)
