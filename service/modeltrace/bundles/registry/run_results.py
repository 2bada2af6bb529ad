"""Log metrics and files to the MLflow run of a registered version, so that they are shown with the model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modeltrace.bundles.registry.mlflow_catalog import VERSION_TAG
from modeltrace.bundles.registry.mlflow_client import MlflowClient
from modeltrace.errors import BundleNotFoundError


def find_number(client: MlflowClient, name: str, version: str) -> str:
    """Return the number of the latest registered version whose bundle has a version.

    Raises:
        SettingsError: MLflow is not installed.
        BundleNotFoundError: the registry has no such model or no such version.
        RegistryUnavailableError: the registry cannot be reached.
    """
    registered: list[dict[str, Any]] = client.call("list_versions", name=name)
    for entry in registered:
        if entry["tags"].get(VERSION_TAG) == version:
            return str(entry["number"])
    raise BundleNotFoundError(
        f"models:/{name} has no version with the tag {VERSION_TAG}={version}. Register the bundle with modeltrace pack "
        "--register, or set the tag of the version that it was made from"
    )


def log_results(
    client: MlflowClient, name: str, number: str, *, metrics: Mapping[str, float], time_ns: int, folder: Path, to: str
) -> str:
    """Log metrics and the files of a folder to the run of a version, and return the ID of the run.

    Args:
        client: the client.
        name: the name of the registered model.
        number: the number of the version.
        metrics: the values by name. Characters that MLflow does not accept become `_`.
        time_ns: the time of the metrics; the seconds since the epoch are their step.
        folder: the folder with the files.
        to: the folder in the run.

    Raises:
        BundleNotFoundError: the version, or its run, does not exist.
        RegistryUnavailableError: the registry or its artifact store cannot be reached.
    """
    run_id: str = client.call(
        "log_results",
        name=name,
        number=number,
        metrics=dict(metrics),
        timestamp=time_ns // 1_000_000,
        folder=str(folder),
        to=to,
    )
    return run_id
