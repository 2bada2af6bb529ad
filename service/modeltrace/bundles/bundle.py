"""A bundle: a folder with `model.json` and the artifact it describes, checked before anything is built from it."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from modeltrace.bundles.artifact import Format, load_artifact
from modeltrace.bundles.libraries import check_libraries
from modeltrace.bundles.onnx.model import Ask, Precision, asking, open_session
from modeltrace.errors import BundleAlteredError, BundleError, BundleNotFoundError, PackError
from modeltrace.inference.model import Engine, Label, Model, Task, answering, native
from modeltrace.inference.schema import Answers, Feature, Schema, Treatment
from modeltrace.printable import error_message, escape_controls, has_controls
from modeltrace.regular_files import LARGEST_MANIFEST, NotRegularError, read_regular, regular_stat

MANIFEST = "model.json"


def _plain_file_name(file: str) -> str:
    if file != Path(file).name or file in ("", ".", "..", MANIFEST) or "\\" in file or "\0" in file:
        raise ValueError("must be a plain file name, in the bundle's own folder")
    return file


class ModelFile(BaseModel):
    """A file that holds the model in one form or another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=1)

    _beside_the_manifest = field_validator("file")(_plain_file_name)


class Artifact(ModelFile):
    """The file that holds the estimator."""

    format: Format


class OnnxFile(ModelFile):
    """The same model for ONNX Runtime, and how it was proven to be the same."""

    opset: dict[str, int]
    precision: Precision
    proven_rows: int = Field(ge=1)
    # Of confidences, or of values as a share of the greatest.
    largest_difference: float = Field(ge=0)


class Traffic(BaseModel):
    """Held-out rows to replay: a Parquet file with a column for each feature, and one of true labels if there are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    rows: int = Field(ge=1)
    target: str | None
    size: int | None = Field(default=None, ge=1)

    _beside_the_manifest = field_validator("file")(_plain_file_name)


class Manifest(BaseModel):
    """What `model.json` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # 1 had the most frequent 1,000 levels of a column of the dtype `category`, sorted.
    format: Literal[1, 2] = 2
    name: str = Field(min_length=1, max_length=128)
    version: str = Field(min_length=1, max_length=64)
    task: Task
    created: str
    artifact: Artifact
    libraries: dict[str, str]
    # Those of them whose code the estimator is made of.
    estimator_libraries: tuple[str, ...] = ()
    fitted_with: Literal["array", "frame"]
    classes: tuple[Label, ...] | None
    features: tuple[Feature, ...] = Field(min_length=1)
    on_unknown: Treatment = "reject"
    traffic: Traffic | None = None
    onnx: OnnxFile | None = None
    # What later answers are compared with, and the confidence below which one is called low; of classifiers with
    # probabilities. Bundles of before they were kept have neither.
    answers: Answers | None = None
    confidence_threshold: float | None = Field(default=None, ge=0, le=1)
    # The chance that two rows of the training data are equal, at most: rows that come more often repeat.
    coincidence: float | None = Field(default=None, ge=0, le=1)

    @field_validator("name", "version")
    @classmethod
    def _printable(cls, text: str) -> str:
        if has_controls(text):
            raise ValueError("holds a control character")
        return text

    @model_validator(mode="after")
    def _has_all_levels(self) -> Self:
        if self.format == 1 and (old := [one.name for one in self.features if one.dtype == "category"]):
            raise ValueError(
                f"an earlier version of Modeltrace wrote it, which kept the categories of {old[0]} in another order "
                "than the model's; pack the model anew"
            )
        return self

    @field_validator("features")
    @classmethod
    def _make_a_schema(cls, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        for feature in features:
            if not feature.describes_training():
                raise ValueError(f"the distribution of {feature.name} is not one of type {feature.type}")
        return Schema(features=features).features

    @field_validator("answers")
    @classmethod
    def _has_bins(cls, answers: Answers | None) -> Answers | None:
        if answers is not None and not answers.has_bins(()):
            raise ValueError("is no distribution")
        return answers

    def schema_of_features(self) -> Schema:
        """The feature schema; pydantic has taken the shorter name."""
        return Schema(features=self.features, on_unknown=self.on_unknown)


def read_manifest(bundle: Path) -> tuple[Manifest, str]:
    """Read `model.json`: what it says, and its SHA-256.

    Raises:
        BundleNotFoundError: there is no bundle at that path.
        BundleError: it does not say what a bundle says; the message names the key.
    """
    path = bundle / MANIFEST
    try:
        raw = read_regular(path, limit=LARGEST_MANIFEST)
    except NotRegularError as error:
        raise BundleError(str(error)) from None
    except OSError as error:
        raise BundleNotFoundError(
            f"no bundle at {bundle}: {MANIFEST}: {_reason(error)} (`modeltrace pack` makes one)"
        ) from None
    try:
        return Manifest.model_validate_json(raw), hashlib.sha256(raw).hexdigest()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(
            f"{path}: {escape_controls(where, lines=False)}: {error_message(first['msg'])}; either it is altered or "
            "another version of Modeltrace wrote it"
        ) from None


def load_bundle(
    bundle: Path,
    *,
    engine: Engine = "sklearn",
    expect_sha256: str | None = None,
    trust_pickle: bool = False,
    trusted_types: Sequence[str] = (),
) -> Model:
    """Check a bundle, then load it. The model's file is read once: what was hashed is what is loaded.

    Args:
        bundle: the folder.
        engine: what answers. With `onnx` the artifact is not read at all: neither its format nor its types nor its
            version of scikit-learn matter then.
        expect_sha256: the SHA-256 that `model.json` must have; it pins the model's files, too, whose hashes it holds.
        trust_pickle: load joblib, which can run any code.
        trusted_types: dotted names of types that a skops artifact may hold beyond scikit-learn's own.

    Raises:
        BundleError: one of its kinds says what is wrong.
        SettingsError: the engine is not installed.
    """
    manifest, digest = read_manifest(bundle)
    if expect_sha256 is not None and digest != expect_sha256:
        raise BundleAlteredError(
            f"{bundle / MANIFEST} has the SHA-256 {digest}, expected {expect_sha256}; it is not the bundle you pinned"
        )
    if engine == "onnx":
        file, answer_matrix = _load_onnx(bundle, manifest)
    else:
        file, answer_matrix = manifest.artifact, _load_estimator(bundle, manifest, trust_pickle, trusted_types)
    return Model(
        name=manifest.name,
        version=manifest.version,
        hash=file.sha256,
        task=manifest.task,
        classes=manifest.classes,
        schema=manifest.schema_of_features(),
        as_frame=manifest.fitted_with == "frame" and engine == "sklearn",
        created=manifest.created,
        answer_matrix=answer_matrix,
        computes_only=engine == "onnx" or (manifest.artifact.format == "skops" and not trusted_types),
        engine=engine,
        answers=manifest.answers,
        confidence_threshold=manifest.confidence_threshold,
        coincidence=manifest.coincidence,
    )


def _load_estimator(bundle: Path, manifest: Manifest, trust_pickle: bool, trusted_types: Sequence[str]) -> Ask:  # noqa: FBT001  passed on
    path = bundle / manifest.artifact.file
    raw = _read_file(path, manifest.artifact)
    check_libraries(bundle, manifest.libraries, manifest.estimator_libraries)
    estimator = load_artifact(
        raw, manifest.artifact.format, source=path, trust_pickle=trust_pickle, trusted_types=trusted_types
    )
    try:
        _check_estimator(bundle, manifest, estimator)
        return answering(estimator, manifest.task)
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(f"{path} holds a damaged estimator: {type(error).__name__}: {error}") from error


def _load_onnx(bundle: Path, manifest: Manifest) -> tuple[ModelFile, Ask]:
    if manifest.onnx is None:
        raise BundleError(
            f"{bundle} holds no model for ONNX Runtime: pack it anew with --onnx, or serve it with "
            "MODELTRACE_ENGINE=sklearn"
        )
    path = bundle / manifest.onnx.file
    session = open_session(_read_file(path, manifest.onnx), path)
    try:
        return manifest.onnx, asking(session, manifest.task, manifest.classes, manifest.schema_of_features())
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _read_file(path: Path, described: ModelFile) -> bytes:
    try:
        if regular_stat(path).st_size != described.size:
            raise altered(path)
        raw = read_regular(path, limit=described.size)
    except NotRegularError as error:
        raise BundleError(str(error)) from None
    except OSError as error:
        raise BundleNotFoundError(f"{path}: {_reason(error)}; the bundle is incomplete") from None
    if len(raw) != described.size or hashlib.sha256(raw).hexdigest() != described.sha256:
        raise altered(path)
    return raw


def altered(path: Path) -> BundleAlteredError:
    """A file of a bundle is another one than its manifest describes."""
    return BundleAlteredError(
        f"{path} is not the file that {MANIFEST} describes: altered, or copied in part. Copy the bundle anew"
    )


def _check_estimator(bundle: Path, manifest: Manifest, estimator: Any) -> None:  # noqa: ANN401  whatever was loaded
    """That what was loaded is what `model.json` describes."""
    classes = None
    if manifest.task == "classifier":
        classes = tuple(native(label) for label in getattr(estimator, "classes_", ()))
    # 0 where it does not know: CatBoost says so of a model that was loaded.
    width = getattr(estimator, "n_features_in_", 0) or len(manifest.features)
    if not hasattr(estimator, "predict") or classes != manifest.classes or width != len(manifest.features):
        raise BundleError(f"{bundle}: {MANIFEST} and the {type(estimator).__name__} beside it do not belong together")


def write_bundle(folder: Path, manifest: Manifest, files: Mapping[str, bytes], *, force: bool = False) -> Path:
    """Write a bundle completely, then give the folder its name.

    Raises:
        PackError: the folder exists and `force` is not given, or it is no bundle, or it cannot be written.
    """
    if folder.exists() and not force:
        raise PackError(f"{folder} exists; choose another --out, or replace it with --force")
    if folder.exists() and not (folder / MANIFEST).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise PackError(f"{folder} exists and is no bundle, so it is not replaced; choose another --out")
    try:
        text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError as error:  # a number that is not finite, half a surrogate pair
        raise PackError(f"{MANIFEST} cannot be written: {error}") from None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise PackError(f"{folder} cannot be written: {_reason(error)}") from None
    try:
        fresh, old = workplace / "fresh", workplace / "old"
        fresh.mkdir()
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        (fresh / MANIFEST).write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            folder.replace(old)
        fresh.replace(folder)
    except OSError as error:
        raise PackError(f"{folder} cannot be written: {_reason(error)}") from None
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return folder
