"""The process that speaks with MLflow: a question a line in, an answer a line out, both JSON.

MLflow brings loggers, threads and OpenTelemetry settings of its own, and its import takes seconds in which nothing else
in a process runs. So it has a process to itself, started where a `models:/` source is named.
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
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

# What the stores say of a name, a number or an alias that they do not have.
NOT_FOUND_CODES: Final = {ErrorCode.Name(INVALID_PARAMETER_VALUE), ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)}
EXPERIMENT: Final = "modeltrace"
ARTIFACT_FOLDER: Final = "bundle"
_CREDENTIALS: Final = re.compile(r"://[^/\s]*@")


def handle(client: MlflowClient, line: str) -> dict[str, Any]:
    """The answer to one question: `answer`, or `error` (`missing` or `away`) and a `message`."""
    question = json.loads(line)
    try:
        return {"result": METHODS[question.pop("method")](client, **question)}
    except MlflowException as error:
        kind = "not_found" if error.error_code in NOT_FOUND_CODES else "unavailable"
        return {"error": kind, "message": _first_line(error.message)}
    except Exception as error:  # noqa: BLE001  whatever a database driver or an artifact store raises
        return {"error": "unavailable", "message": f"{type(error).__name__}: {_first_line(str(error))}"}


def registry_uri(_: MlflowClient) -> str:
    """The registry that is asked, without what may be secret in its address."""
    return _first_line(mlflow.get_registry_uri())


def get_version(client: MlflowClient, name: str, alias: str | None, number: str | None) -> dict[str, Any]:
    """One version of a registered model."""
    if alias is not None:
        return _version_entry(client, client.get_model_version_by_alias(name, alias))
    return _version_entry(client, client.get_model_version(name, str(number)))


def list_versions(client: MlflowClient, name: str) -> list[dict[str, Any]]:
    """All versions of a registered model, the latest first."""
    client.get_registered_model(name)  # a search finds nothing where there is no such model, and says nothing
    quoted = name.replace("'", "''")
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name='{quoted}'", page_token=token)
        found += page
        token = page.token
        if not token:
            break
    return [_version_entry(client, one) for one in sorted(found, key=lambda one: int(one.version), reverse=True)]


def list_files(_: MlflowClient, uri: str) -> list[str]:
    """The files at a place, by name."""
    return [one.path.rpartition("/")[2] for one in mlflow.artifacts.list_artifacts(artifact_uri=uri) if not one.is_dir]


def download(_: MlflowClient, uri: str, file: str, folder: str) -> None:
    """Copy a file into a folder, under its own name."""
    with TemporaryDirectory(dir=folder) as place:
        got = mlflow.artifacts.download_artifacts(artifact_uri=f"{uri.rstrip('/')}/{file}", dst_path=place)
        shutil.move(got, Path(folder, file.rpartition("/")[2]))


def register(
    client: MlflowClient,
    folder: str,
    name: str,
    alias: str | None,
    tags: Mapping[str, str],
    flavors: Mapping[str, Mapping[str, Any]],
) -> str:
    """Log a bundle's files and register them as a new version; its number.

    With `flavors` MLflow can load it, too.
    """
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    known = client.get_experiment_by_name(experiment)
    number = client.create_experiment(experiment) if known is None else known.experiment_id
    run = client.create_run(number, tags={MLFLOW_RUN_NAME: f"{name} {tags['modeltrace.version']}"})
    status = "FAILED"
    try:
        with TemporaryDirectory() as place:
            whole = Path(shutil.copytree(folder, Path(place, ARTIFACT_FOLDER)))
            if flavors:
                model = Model(artifact_path=ARTIFACT_FOLDER, run_id=run.info.run_id)
                for flavour, said in flavors.items():
                    model.add_flavor(flavour, **said)
                model.save(str(whole / "MLmodel"))
            client.log_artifacts(run.info.run_id, str(whole), ARTIFACT_FOLDER)
        with contextlib.suppress(MlflowException):  # there already
            client.create_registered_model(name)
        uri = f"{run.info.artifact_uri}/{ARTIFACT_FOLDER}"
        made = client.create_model_version(name, uri, run_id=run.info.run_id, tags=dict(tags))
        if alias is not None:
            client.set_registered_model_alias(name, alias, str(made.version))
        status = "FINISHED"
    finally:
        client.set_terminated(run.info.run_id, status)
    return str(made.version)


def _version_entry(client: MlflowClient, one: ModelVersion) -> dict[str, Any]:
    number = str(one.version)
    return {
        "name": one.name,
        "number": number,
        "created": one.creation_timestamp,
        "uri": client.get_model_version_download_uri(one.name, number),
        "tags": dict(one.tags),
    }


METHODS: Final[Mapping[str, Callable[..., Any]]] = {
    call.__name__: call for call in (registry_uri, get_version, list_versions, list_files, download, register)
}


def _first_line(text: str) -> str:
    """The line that says what is wrong, without user and password of addresses in it."""
    return _CREDENTIALS.sub("://", text.strip().partition("\n")[0])


def main() -> None:
    """Answer until there are no more questions: until whoever asks is gone."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what anything prints is no answer
    client = MlflowClient()
    for line in sys.stdin:
        print(json.dumps(handle(client, line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
