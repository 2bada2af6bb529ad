"""Where a bundle is looked for when nobody says where it is."""

from pathlib import Path

from modeltrace.bundles.registry.search_paths import example_folder, search_paths


def test_copies_are_looked_in_before_the_registry_that_they_are_from(tmp_path: Path) -> None:
    """And folders that are not there are not looked in."""
    assert search_paths([None, "http://127.0.0.1:8001"], tmp_path) == []
    (tmp_path / "registry").mkdir()
    example_folder(tmp_path).mkdir()

    copies = [str(tmp_path / "registry"), str(example_folder(tmp_path))]
    assert search_paths(["models:/a@b", "mine", "served"], tmp_path) == ["mine", "served", *copies, "models:/a@b"]
