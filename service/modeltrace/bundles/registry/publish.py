"""Register a bundle in an MLflow registry, and download a registered model to pack it."""

import io
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import yaml

from modeltrace.bundles import proxies
from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.bundles.registry.mlflow_catalog import SHA256_TAG, VERSION_TAG, MlflowCatalog
from modeltrace.bundles.registry.mlflow_client import MlflowClient
from modeltrace.bundles.registry.source import MlflowSource, parse_source
from modeltrace.bundles.skops_io import skops_io
from modeltrace.errors import PackError
from modeltrace.regular_files import read_regular

MLMODEL_FILE: Final = "MLmodel"
# The serialization formats of MLflow's sklearn flavor, and the file suffixes that `pack` expects.
SUFFIX_BY_FORMAT: Final = {"skops": ".skops", "pickle": ".pkl", "cloudpickle": ".pkl"}


def register(client: MlflowClient, bundle: Path, name: str, alias: str | None) -> str:
    """Register a bundle as a new version of a model, set an alias, and return the number of the version.

    MLflow itself can also load the model if the format of the bundle is skops.

    Raises:
        SettingsError: MLflow is not installed.
        RegistryUnavailableError: the registry or its artifact store cannot be reached.
    """
    manifest, digest = read_manifest(bundle)
    tags = {SHA256_TAG: digest, VERSION_TAG: manifest.version}
    flavors = _mlflow_flavors(bundle, manifest)
    folder = str(bundle.resolve())
    number: str = client.call("register", folder=folder, name=name, alias=alias, tags=tags, flavors=flavors)
    return number


def _mlflow_flavors(bundle: Path, manifest: Manifest) -> Mapping[str, Mapping[str, Any]]:
    """Return MLflow's description of the model. MLflow loads neither files of joblib, nor proxies, nor own modules."""
    if manifest.artifact.format != "skops" or manifest.code is not None:
        return {}
    file = manifest.artifact.file
    types = skops_io.get_untrusted_types(file=io.BytesIO(read_regular(bundle / file, max_bytes=manifest.artifact.size)))
    if any(name.startswith(proxies.__name__) for name in types):
        return {}
    sklearn = {
        "pickled_model": file,
        "serialization_format": "skops",
        "skops_trusted_types": sorted(types),
        "sklearn_version": manifest.libraries.get("scikit-learn"),
        "code": None,
    }
    function = {"loader_module": "mlflow.sklearn", "model_path": file, "predict_fn": "predict", "env": {}}
    return {"python_function": function, "sklearn": sklearn}


def download_model(client: MlflowClient, source: str, folder: Path) -> Path:
    """Download a version of a registered model that MLflow has saved, and return its folder.

    `folder` is a temporary folder of the caller. The folder in it has the name of the model.

    Raises:
        SettingsError: the source is malformed, or MLflow is not installed.
        BundleNotFoundError: the registry has no such version.
        RegistryUnavailableError: the registry or its artifact store cannot be reached.
        PackError: the version contains no model of MLflow.
    """
    model = parse_source(source)
    if not isinstance(model, MlflowSource):
        raise PackError(f"{source} is not a model in a registry")
    uri = MlflowCatalog(client, folder).get_version(model)["uri"]
    if MLMODEL_FILE not in client.call("list_files", uri=uri):
        raise PackError(f"{source} contains no file {MLMODEL_FILE}, so it is not a model that MLflow has saved")
    path: str = client.call("download_folder", uri=uri, folder=mkdtemp(dir=folder))
    return Path(path).rename(folder / model.name)


def estimator_file(description: Path, source: str) -> tuple[str, str]:
    """Return the path of the estimator below the folder of the file `MLmodel`, and the suffix that `pack` expects.

    Raises:
        PackError: the file has no flavor sklearn, or the path is not below the folder.
    """
    try:
        flavors = yaml.safe_load(description.read_text(encoding="utf-8"))["flavors"]
        options = flavors["sklearn"]
        file, serialization = options["pickled_model"], options.get("serialization_format", "pickle")
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, AttributeError):
        raise PackError(f"{source}: the flavor sklearn in {MLMODEL_FILE} cannot be read") from None
    is_local = isinstance(file, str) and ".." not in file and ":" not in file and not file.startswith("/")
    if serialization not in SUFFIX_BY_FORMAT or not is_local:
        raise PackError(f"{source}: the path or format of the estimator is unknown: {file}, {serialization}")
    return file, SUFFIX_BY_FORMAT[serialization]
