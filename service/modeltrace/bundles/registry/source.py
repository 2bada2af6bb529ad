"""Parse the source of a bundle: a folder, with or without a version, or a model in an MLflow registry."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modeltrace.errors import SettingsError

MLFLOW_PREFIX: Final = "models:/"
_MLFLOW_SOURCE: Final = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>[1-9][0-9]*))")


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A bundle, or one version in a folder of bundles. The default version is the highest."""

    path: Path
    version: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.version is None else f"{self.path}@{self.version}"


@dataclass(frozen=True, slots=True)
class MlflowSource:
    """A version of a model in an MLflow registry. Exactly one of `alias` and `number` is set."""

    name: str
    alias: str | None = None
    number: str | None = None

    def __str__(self) -> str:
        return f"{MLFLOW_PREFIX}{self.name}{f'@{self.alias}' if self.alias else f'/{self.number}'}"


def parse_source(text: str) -> FolderSource | MlflowSource:
    """Parse a source. If a folder with the whole text as its name exists, an `@` does not separate a version.

    Raises:
        SettingsError: the source starts with `models:` but is malformed.
    """
    if text.startswith("models:"):
        match = _MLFLOW_SOURCE.fullmatch(text)
        if match is None:
            raise SettingsError(
                f"{text}: write models:/NAME@ALIAS or models:/NAME/NUMBER, with the registry's number of the version"
            )
        return MlflowSource(match["name"], match["alias"], match["number"])
    path, separator, version = text.rpartition("@")
    if not separator or not version or "/" in version or Path(text).exists():
        return FolderSource(Path(text))
    return FolderSource(Path(path), version)
