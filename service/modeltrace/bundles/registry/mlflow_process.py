"""Call MLflow in a separate process: one JSON request per line on stdin, one JSON response per line on stdout.

MLflow has its own loggers, threads and OpenTelemetry settings, and its import takes seconds. The service therefore
starts this process when it needs a `models:/` source.
"""

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import mlflow
import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

# The error codes of a store for an unknown name, number or alias.
NOT_FOUND_CODES: Final = {ErrorCode.Name(INVALID_PARAMETER_VALUE), ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)}
EXPERIMENT: Final = "modeltrace"
ARTIFACT_FOLDER: Final = "bundle"
# The characters that names of metrics cannot have, and the metrics of one request.
_METRIC_CHARACTERS: Final = re.compile(r"[^\w/. :-]")
MAX_METRICS: Final = 1000
_CREDENTIALS: Final = re.compile(r"://[^/\s]*@")


def handle(client: MlflowClient, line: str) -> dict[str, Any]:
    """Return the response to one request: `result`, or `error` (`not_found` or `unavailable`) and `message`."""
    request = json.loads(line)
    try:
        return {"result": METHODS[request.pop("method")](client, **request)}
    except MlflowException as error:
        kind = "not_found" if error.error_code in NOT_FOUND_CODES else "unavailable"
        return {"error": kind, "message": _first_line(error.message)}
    except Exception as error:  # noqa: BLE001  database drivers and artifact stores have exceptions of their own
        return {"error": "unavailable", "message": f"{type(error).__name__}: {_first_line(str(error))}"}


def registry_uri(_: MlflowClient) -> str:
    """Return the address of the registry, without credentials."""
    return _first_line(mlflow.get_registry_uri())


def get_version(client: MlflowClient, name: str, alias: str | None, number: str | None) -> dict[str, Any]:
    """Return one version of a registered model, by alias or by number."""
    if alias is not None:
        return _version_entry(client, client.get_model_version_by_alias(name, alias))
    return _version_entry(client, client.get_model_version(name, str(number)))


def list_versions(client: MlflowClient, name: str) -> list[dict[str, Any]]:
    """Return all versions of a registered model, the latest first."""
    client.get_registered_model(name)  # raises if there is no such model; a search would return nothing
    quoted = name.replace("'", "''")
    versions: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name='{quoted}'", page_token=token)
        versions += page
        token = page.token
        if not token:
            break
    versions.sort(key=lambda version: int(version.version), reverse=True)
    return [_version_entry(client, version) for version in versions]


def list_files(_: MlflowClient, uri: str) -> list[str]:
    """Return the names of the files at an artifact URI."""
    artifacts = mlflow.artifacts.list_artifacts(artifact_uri=uri)
    return [artifact.path.rpartition("/")[2] for artifact in artifacts if not artifact.is_dir]


def download(_: MlflowClient, uri: str, file: str, folder: str) -> None:
    """Download a file into a folder, under its own name."""
    with TemporaryDirectory(dir=folder) as temporary:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"{uri.rstrip('/')}/{file}", dst_path=temporary)
        shutil.move(path, Path(folder, file.rpartition("/")[2]))


def download_folder(_: MlflowClient, uri: str, folder: str) -> str:
    """Download all files at an artifact URI into an empty folder, and return the folder that contains them."""
    return str(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))


def register(
    client: MlflowClient,
    folder: str,
    name: str,
    alias: str | None,
    tags: Mapping[str, str],
    flavors: Mapping[str, Mapping[str, Any]],
) -> str:
    """Log the files of a bundle as a run, register them as a new version, and return its number.

    With `flavors`, MLflow itself can load the model too.
    """
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    existing = client.get_experiment_by_name(experiment)
    experiment_id = client.create_experiment(experiment) if existing is None else existing.experiment_id
    run = client.create_run(experiment_id, tags={MLFLOW_RUN_NAME: f"{name} {tags['modeltrace.version']}"})
    status = "FAILED"
    try:
        with TemporaryDirectory() as temporary:
            artifacts = Path(shutil.copytree(folder, Path(temporary, ARTIFACT_FOLDER)))
            if flavors:
                model = Model(artifact_path=ARTIFACT_FOLDER, run_id=run.info.run_id)
                for flavor, options in flavors.items():
                    model.add_flavor(flavor, **options)
                model.save(str(artifacts / "MLmodel"))
            client.log_artifacts(run.info.run_id, str(artifacts), ARTIFACT_FOLDER)
        with contextlib.suppress(MlflowException):  # it exists already
            client.create_registered_model(name)
        uri = f"{run.info.artifact_uri}/{ARTIFACT_FOLDER}"
        version = client.create_model_version(name, uri, run_id=run.info.run_id, tags=dict(tags))
        if alias is not None:
            client.set_registered_model_alias(name, alias, str(version.version))
        status = "FINISHED"
    finally:
        client.set_terminated(run.info.run_id, status)
    return str(version.version)


def log_results(
    client: MlflowClient, name: str, number: str, metrics: Mapping[str, float], timestamp: int, folder: str, to: str
) -> str:
    """Log metrics, and the files of a folder, to the run of a version, and return the ID of the run."""
    run_id = client.get_model_version(name, number).run_id
    if not run_id:
        raise MlflowException(f"version {number} of {name} has no run", RESOURCE_DOES_NOT_EXIST)
    points = [
        Metric(_METRIC_CHARACTERS.sub("_", key), value, timestamp, timestamp // 1000) for key, value in metrics.items()
    ]
    for start in range(0, len(points), MAX_METRICS):
        client.log_batch(run_id, points[start : start + MAX_METRICS])
    client.log_artifacts(run_id, folder, to)
    return str(run_id)


def _version_entry(client: MlflowClient, version: ModelVersion) -> dict[str, Any]:
    number = str(version.version)
    return {
        "name": version.name,
        "number": number,
        "created": version.creation_timestamp,
        "uri": client.get_model_version_download_uri(version.name, number),
        "tags": dict(version.tags),
    }


METHODS: Final[Mapping[str, Callable[..., Any]]] = {
    method.__name__: method
    for method in (
        registry_uri,
        get_version,
        list_versions,
        list_files,
        download,
        download_folder,
        register,
        log_results,
    )
}


def _first_line(text: str) -> str:
    """Return the first line of a message, without the credentials in addresses."""
    return _CREDENTIALS.sub("://", text.strip().partition("\n")[0])


def main() -> None:
    """Handle requests until stdin is closed, which happens when the client stops."""
    responses = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the client must not read other output as a response
    client = MlflowClient()
    for line in sys.stdin:
        print(json.dumps(handle(client, line)), file=responses, flush=True)


if __name__ == "__main__":
    main()
