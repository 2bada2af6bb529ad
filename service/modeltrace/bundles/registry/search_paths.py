"""The sources to search for a bundle if only its hash or its version is known."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from modeltrace.bundles.registry.source import MLFLOW_PREFIX
from modeltrace.settings import data_dir


def search_paths(named: Sequence[str | None], data: Path | None = None) -> list[str]:
    """Return the named sources, the cached copies from registries, and the example of `modeltrace up`.

    A source may be the address of a remote challenger. It is skipped, because its bundle is not accessible.
    """
    data = data or data_dir()
    folders = [str(folder) for folder in (data / "registry", example_folder(data)) if folder.is_dir()]
    sources = [source for source in named if source and "://" not in source]
    # Registries are last, because searching them needs the MLflow process. Their copies are in a local folder.
    registered = [source for source in sources if source.startswith(MLFLOW_PREFIX)]
    return [*(source for source in sources if source not in registered), *folders, *registered]


def example_folder(data: Path) -> Path:
    """Return the folder of the example bundle of `modeltrace up`; each version of Modeltrace has its own."""
    return data / f"example-{version('modeltrace')}"
