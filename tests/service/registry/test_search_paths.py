"""The sources that are searched for a bundle."""

from pathlib import Path

from modeltrace.bundles.registry.search_paths import example_folder, search_paths


def test_copies_are_searched_before_their_registry(tmp_path: Path) -> None:
    """Folders that do not exist are not searched."""
    assert search_paths([None, "http://127.0.0.1:8001"], tmp_path) == []
    (tmp_path / "registry").mkdir()
    example_folder(tmp_path).mkdir()

    copies = [str(tmp_path / "registry"), str(example_folder(tmp_path))]
    assert search_paths(["models:/a@b", "mine", "served"], tmp_path) == ["mine", "served", *copies, "models:/a@b"]
