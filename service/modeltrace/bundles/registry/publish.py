"""To and from an MLflow registry when a bundle is packed: a bundle becomes a version, a version's model a file."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.bundles.registry.mlflow_catalog import SHA256_TAG, VERSION_TAG, MlflowCatalog
from modeltrace.bundles.registry.mlflow_client import MlflowClient
from modeltrace.bundles.registry.source import MlflowSource, parse_source
from modeltrace.bundles.skops_io import skops_io
from modeltrace.errors import PackError
from modeltrace.regular_files import read_regular

MLMODEL_FILE: Final = "MLmodel"
# What MLflow's sklearn flavour writes, and the suffix by which `pack` knows it.
SUFFIX_BY_FORMAT: Final = {"skops": ".skops", "pickle": ".pkl", "cloudpickle": ".pkl"}


def register(client: MlflowClient, bundle: Path, name: str, alias: str | None) -> str:
    """Register a bundle as a new version of a model, and have an alias mean it; the version's number.

    MLflow can load it as its own, too, when it is kept by skops.

    Raises:
        SettingsError: MLflow is not installed.
        RegistryUnavailableError: the registry, or where it keeps files, cannot be reached.
    """
    manifest, digest = read_manifest(bundle)
    tags = {SHA256_TAG: digest, VERSION_TAG: manifest.version}
    flavors = _mlflow_flavors(bundle, manifest)
    folder = str(bundle.resolve())
    number: str = client.call("register", folder=folder, name=name, alias=alias, tags=tags, flavors=flavors)
    return number


def _mlflow_flavors(bundle: Path, manifest: Manifest) -> Mapping[str, Mapping[str, Any]]:
    """How MLflow loads the same file. What joblib writes is more than the pickle that MLflow would read."""
    if manifest.artifact.format != "skops":
        return {}
    file = manifest.artifact.file
    types = skops_io.get_untrusted_types(file=io.BytesIO(read_regular(bundle / file, max_bytes=manifest.artifact.size)))
    sklearn = {
        "pickled_model": file,
        "serialization_format": "skops",
        "skops_trusted_types": sorted(types),
        "sklearn_version": manifest.libraries.get("scikit-learn"),
        "code": None,
    }
    function = {"loader_module": "mlflow.sklearn", "model_path": file, "predict_fn": "predict", "env": {}}
    return {"python_function": function, "sklearn": sklearn}


def download_estimator(client: MlflowClient, source: str, folder: Path) -> Path:
    """Copy the estimator of a version into a folder; its file, by whose suffix `pack` reads it.

    Raises:
        SettingsError: the source makes no sense, or MLflow is not installed.
        BundleNotFoundError: the registry has no such version.
        RegistryUnavailableError: the registry, or where it keeps files, cannot be reached.
        PackError: the version is no scikit-learn model.
    """
    model = parse_source(source)
    if not isinstance(model, MlflowSource):
        raise PackError(f"{source} names no model of a registry")
    entry = MlflowCatalog(client, folder).get_version(model)
    if MLMODEL_FILE not in client.call("list_files", uri=entry["uri"]):
        raise PackError(f"{source} has no file {MLMODEL_FILE}: it is no model that MLflow has written")
    client.call("download", uri=entry["uri"], file=MLMODEL_FILE, folder=str(folder))
    file, suffix = _estimator_file(folder / MLMODEL_FILE, source)
    client.call("download", uri=entry["uri"], file=file, folder=str(folder))
    return (folder / Path(file).name).rename(folder / f"{model.name}{suffix}")


def _estimator_file(description: Path, source: str) -> tuple[str, str]:
    """The file that a description names, below its folder, and the suffix for it."""
    try:
        flavors = yaml.safe_load(description.read_text(encoding="utf-8"))["flavors"]
        said = flavors["sklearn"]
        file, kind = said["pickled_model"], said.get("serialization_format", "pickle")
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, AttributeError):
        raise PackError(f"{source} is no scikit-learn model: {MLMODEL_FILE} names none") from None
    if kind not in SUFFIX_BY_FORMAT or not isinstance(file, str) or ".." in file or file.startswith("/") or ":" in file:
        raise PackError(f"{source}: {MLMODEL_FILE} names an estimator in a way that is not known: {file}, {kind}")
    return file, SUFFIX_BY_FORMAT[kind]
