"""Bundles, and a store with predictions of one of them."""

from pathlib import Path

import pytest

from tests.helpers.report_cases import PackPeople, ReportCase, pack_people, store_two_classes


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackPeople:
    """Return a function that packs a bundle of a kind, once, and returns its paths."""
    folder = tmp_path_factory.mktemp("bundles")
    bundles: dict[str, tuple[Path, Path]] = {}

    def make(kind: str) -> tuple[Path, Path]:
        if kind not in bundles:
            bundles[kind] = pack_people(folder, kind)
        return bundles[kind]

    return make


@pytest.fixture
def two(packed: PackPeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReportCase:
    """A store with predictions of two classes."""
    bundle, training_data = packed("two")
    store = str(tmp_path / "predictions.db")
    store_two_classes(store, bundle)
    return ReportCase(bundle, training_data, store, monkeypatch)
