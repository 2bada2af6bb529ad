"""What a source says: a folder, perhaps with a version, or a model of an MLflow registry."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modeltrace.errors import SettingsError

MLFLOW_PREFIX: Final = "models:/"
_MLFLOW_SOURCE: Final = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>[1-9][0-9]*))")


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A bundle, or a folder of bundles; of these one version, or the highest."""

    path: Path
    version: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.version is None else f"{self.path}@{self.version}"


@dataclass(frozen=True, slots=True)
class MlflowSource:
    """A model of an MLflow registry, by alias or by the number that the registry gave it; exactly one is set."""

    name: str
    alias: str | None = None
    number: str | None = None

    def __str__(self) -> str:
        return f"{MLFLOW_PREFIX}{self.name}{f'@{self.alias}' if self.alias else f'/{self.number}'}"


def parse_source(text: str) -> FolderSource | MlflowSource:
    """Read a source. A folder that is there is meant as it is written, even with an `@` in its name.

    Raises:
        SettingsError: it begins as one of MLflow's does, and goes on otherwise.
    """
    if text.startswith("models:"):
        match = _MLFLOW_SOURCE.fullmatch(text)
        if match is None:
            raise SettingsError(
                f"{text}: write models:/NAME@ALIAS or models:/NAME/VERSION, the version being the registry's number"
            )
        return MlflowSource(match["name"], match["alias"], match["number"])
    before, at, version = text.rpartition("@")
    if not at or not version or "/" in version or Path(text).exists():
        return FolderSource(Path(text))
    return FolderSource(Path(before), version)
