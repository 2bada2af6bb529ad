"""The manifest of a bundle, `model.json`. It describes the model and contains the hashes of the model's files."""

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from modeltrace.bundles.artifact import ArtifactFormat
from modeltrace.bundles.onnx.model import Precision
from modeltrace.errors import BundleError, BundleIntegrityError, BundleNotFoundError
from modeltrace.inference.held_out import HeldOut
from modeltrace.inference.importance import Importance
from modeltrace.inference.intervals import IntervalRule
from modeltrace.inference.model import Label
from modeltrace.inference.monitored_outputs import MonitoredOutputs
from modeltrace.inference.named_outputs import MAX_OUTPUTS, Output
from modeltrace.inference.schema import Feature, OutputReference, Schema, StrictModel, ViolationAction
from modeltrace.inference.tasks import Task
from modeltrace.printable import escape_control_characters, has_control_characters, validation_message
from modeltrace.regular_files import MAX_MANIFEST_BYTES, NotRegularError, read_regular, stat_regular

MANIFEST_FILE = "model.json"
# The format that `pack` writes. Bundles of other formats are rejected.
FORMAT_VERSION = 3


def _check_file_name(file: str) -> str:
    if file != Path(file).name or file in ("", ".", "..", MANIFEST_FILE) or "\\" in file or "\0" in file:
        raise ValueError("must be a file name without a folder")
    return file


def _check_printable(text: str) -> str:
    if has_control_characters(text):
        raise ValueError("contains a control character")
    return text


FileName = Annotated[str, AfterValidator(_check_file_name)]
Printable = Annotated[str, AfterValidator(_check_printable)]


class ModelFile(StrictModel):
    """A file that contains the model."""

    file: FileName
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=1)

    @classmethod
    def describe(cls, file: str, content: bytes, **more: Any) -> Self:  # noqa: ANN401  the fields of a subclass
        """Return the entry of a file with this content."""
        return cls(file=file, sha256=hashlib.sha256(content).hexdigest(), size=len(content), **more)


class Artifact(ModelFile):
    """The file that contains the serialized estimator."""

    format: ArtifactFormat


class OnnxFile(ModelFile):
    """The model converted to ONNX, and how the conversion was verified."""

    opset: dict[str, int]
    precision: Precision
    verified_rows: int = Field(ge=1)
    # The largest difference between both engines: of confidences, or of values relative to the largest value.
    max_difference: float = Field(ge=0)


class CodeFile(ModelFile):
    """The archive with the user's modules."""

    # The names of the modules and packages at the top level.
    modules: tuple[str, ...] = Field(min_length=1)


class TrafficFile(StrictModel):
    """A Parquet file of test rows to replay: one column per feature, and one with true labels if there are any."""

    file: FileName
    rows: int = Field(ge=1)
    target: str | None
    size: int = Field(ge=1)


class Manifest(StrictModel):
    """The content of `model.json`."""

    format: int = Field(default=FORMAT_VERSION, strict=True)
    name: Printable = Field(min_length=1, max_length=128)
    version: Printable = Field(min_length=1, max_length=64)
    task: Task
    created: str
    artifact: Artifact
    # The installed versions when the bundle was packed, by distribution name.
    libraries: dict[str, str]
    # The libraries whose types and functions the estimator contains.
    estimator_libraries: tuple[str, ...] = ()
    # The input of `fit`: a NumPy array, or a pandas DataFrame with column names.
    fitted_with: Literal["array", "frame"]
    classes: tuple[Label, ...] | None
    # The named outputs of a prediction, in addition to the label or in place of it.
    outputs: tuple[Output, ...] = ()
    features: tuple[Feature, ...] = Field(min_length=1)
    on_unknown: ViolationAction = "reject"
    traffic: TrafficFile | None = None
    onnx: OnnxFile | None = None
    # The user's modules that the estimator needs, and the packages that these need.
    code: CodeFile | None = None
    requirements: ModelFile | None = None
    # The distribution of the model's outputs when it was packed, the reference for output drift.
    output_reference: OutputReference | None = None
    # The distributions of the named outputs when the bundle was packed, the reference for their drift.
    monitored_outputs: MonitoredOutputs | None = None
    # The quality of predictions for rows that the model was not fitted on, the reference for confidence and accuracy.
    held_out: HeldOut | None = None
    # How important each feature is for the model, the weight of its drift.
    importance: Importance | None = None
    # An output with a lower confidence counts as uncertain. Only classifiers with probabilities have it.
    confidence_threshold: float | None = Field(default=None, ge=0, le=1)
    # How the prediction interval of a regressor is computed.
    interval: IntervalRule | None = None
    # An upper bound of the probability that two independent rows are equal.
    duplicate_probability: float | None = Field(default=None, ge=0, le=1)

    @field_validator("format")
    @classmethod
    def _is_current_format(cls, number: int) -> int:
        if number != FORMAT_VERSION:
            raise ValueError(f"the format is {number}, this version reads {FORMAT_VERSION}: pack the model again")
        return number

    @field_validator("features")
    @classmethod
    def _is_schema_with_reference(cls, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        for feature in features:
            if not feature.has_valid_reference():
                raise ValueError(f"the reference distribution of {feature.name} does not match the type {feature.type}")
        return Schema(features=features).features

    @field_validator("outputs")
    @classmethod
    def _is_bounded(cls, outputs: tuple[Output, ...]) -> tuple[Output, ...]:
        if len(outputs) > MAX_OUTPUTS or len({output.name for output in outputs}) != len(outputs):
            raise ValueError(f"more than {MAX_OUTPUTS} outputs, or two of the same name")
        return outputs

    @field_validator("output_reference")
    @classmethod
    def _has_bins(cls, reference: OutputReference | None) -> OutputReference | None:
        if reference is not None and not reference.has_valid_bins(()):
            raise ValueError("is not a distribution")
        return reference

    @model_validator(mode="after")
    def _monitors_its_outputs(self) -> Self:
        if self.monitored_outputs is not None:
            self.monitored_outputs.check(self.outputs)
        return self

    def feature_schema(self) -> Schema:
        """Return the feature schema."""
        return Schema(features=self.features, on_unknown=self.on_unknown)

    def model_files(self) -> list[ModelFile]:
        """Return the files that contain the model."""
        return [self.artifact, *([] if self.onnx is None else [self.onnx])]

    def loaded_files(self) -> list[ModelFile]:
        """Return all files that loading the model reads."""
        return [*self.model_files(), *(file for file in (self.code, self.requirements) if file is not None)]


class ManifestFile(NamedTuple):
    """A manifest, and the SHA-256 of the `model.json` that it was read from."""

    manifest: Manifest
    sha256: str


def read_manifest(bundle: Path) -> ManifestFile:
    """Read and validate the `model.json` of a bundle.

    Raises:
        BundleNotFoundError: there is no `model.json` in the folder.
        BundleError: it is not a valid manifest; the message names the key.
    """
    path = bundle / MANIFEST_FILE
    try:
        raw = read_regular(path, max_bytes=MAX_MANIFEST_BYTES)
    except NotRegularError as error:
        raise BundleError(str(error)) from None
    except OSError as error:
        raise BundleNotFoundError(
            f"no bundle at {bundle}: {MANIFEST_FILE}: {os_reason(error)} (create one with `modeltrace pack`)"
        ) from None
    try:
        return ManifestFile(Manifest.model_validate_json(raw), hashlib.sha256(raw).hexdigest())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        key = escape_control_characters(key, keep_newlines=False)
        raise BundleError(
            f"{path}: {key}: {validation_message(first['msg'])}. The file was altered, or another version of "
            "Modeltrace wrote it"
        ) from None


def read_verified(path: Path, described: ModelFile) -> bytes:
    """Read a file whose size and SHA-256 are those in the manifest.

    Raises:
        BundleNotFoundError: the file does not exist or cannot be read.
        BundleIntegrityError: size or hash differ.
        BundleError: it is not a regular file.
    """
    try:
        if stat_regular(path).st_size != described.size:
            raise integrity_error(path)
        raw = read_regular(path, max_bytes=described.size)
    except NotRegularError as error:
        raise BundleError(str(error)) from None
    except OSError as error:
        raise BundleNotFoundError(f"{path}: {os_reason(error)}; the bundle is incomplete") from None
    if len(raw) != described.size or hashlib.sha256(raw).hexdigest() != described.sha256:
        raise integrity_error(path)
    return raw


def integrity_error(path: Path) -> BundleIntegrityError:
    """Return the error for a file whose size or hash differs from the manifest."""
    return BundleIntegrityError(
        f"{path} is not the file that {MANIFEST_FILE} describes: altered, or copied in part. Copy the bundle again"
    )


def os_reason(error: OSError) -> str:
    """Return the system's message for an error, without the path."""
    return os.strerror(error.errno) if error.errno else str(error)
