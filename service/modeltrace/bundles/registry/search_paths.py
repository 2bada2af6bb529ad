"""Where bundles are looked for when it is known which one is wanted, but not where it is."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from modeltrace.bundles.registry.source import MLFLOW_PREFIX
from modeltrace.settings import data_dir


def search_paths(named: Sequence[str | None], data: Path | None = None) -> list[str]:
    """In sources, as far as they are named, copies from registries, the example of `up`.

    A challenger that is another service has an address, and no bundle that can be had.
    """
    data = data or data_dir()
    folders = [str(folder) for folder in (data / "registry", example_folder(data)) if folder.is_dir()]
    sources = [one for one in named if one and "://" not in one]
    # Copies come before the registry that they are from: no MLflow has to be started for them.
    registered = [one for one in sources if one.startswith(MLFLOW_PREFIX)]
    return [*(one for one in sources if one not in registered), *folders, *registered]


def example_folder(data: Path) -> Path:
    """Where `up` keeps the bundle of its example; each version of Modeltrace has its own."""
    return data / f"example-{version('modeltrace')}"
