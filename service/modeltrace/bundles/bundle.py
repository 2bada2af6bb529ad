"""Verify and load a bundle, and write one."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modeltrace.bundles.artifact import load_artifact
from modeltrace.bundles.code.importer import OwnCode
from modeltrace.bundles.code.load_code import load_code
from modeltrace.bundles.libraries import check_libraries
from modeltrace.bundles.manifest import MANIFEST_FILE, Manifest, ModelFile, os_reason, read_manifest, read_verified
from modeltrace.bundles.onnx.model import open_session, session_predict_fns
from modeltrace.errors import BundleError, BundleIntegrityError, PackError
from modeltrace.inference.model import Engine, Model, PredictFns
from modeltrace.inference.predict_fns import make_predict_fns, with_interval
from modeltrace.inference.task_fns import classes_of
from modeltrace.onnx_providers import CPU_PROVIDER


def load_bundle(
    bundle: Path,
    *,
    engine: Engine = "sklearn",
    expect_sha256: str | None = None,
    trust_pickle: bool = False,
    trust_code: bool = False,
    trusted_types: Sequence[str] = (),
    onnx_providers: Sequence[str] = (CPU_PROVIDER,),
) -> Model:
    """Verify a bundle, then load its model.

    The model's file is read once: the same bytes are hashed and then loaded.

    Args:
        bundle: the folder.
        engine: the library that computes predictions. With `onnx` the artifact is not read, so its format, its types
            and its version of scikit-learn do not matter.
        expect_sha256: the SHA-256 that `model.json` must have. `model.json` contains the hashes of the model's files,
            so this pins the files, too.
        trust_pickle: allow joblib, which can run any code.
        trust_code: import the modules that the bundle contains.
        trusted_types: dotted names of types that skops may build, in addition to the reviewed ones.
        onnx_providers: what ONNX Runtime computes with, the preferred first.

    Raises:
        BundleError: the bundle cannot be used; each reason has a subclass.
        SettingsError: the engine is not installed, or a provider cannot be used.
    """
    manifest, digest = read_manifest(bundle)
    if expect_sha256 is not None and digest != expect_sha256:
        raise BundleIntegrityError(
            f"{bundle / MANIFEST_FILE} has the SHA-256 {digest}, expected {expect_sha256}; it is not the pinned bundle"
        )
    if engine == "onnx":
        file, predict_fns = _load_onnx(bundle, manifest, onnx_providers)
    else:
        file = manifest.artifact
        code = load_code(bundle, manifest, trusted=trust_code)
        predict_fns = _load_estimator(bundle, manifest, code, trust_pickle=trust_pickle, trusted_types=trusted_types)
    if manifest.task == "regressor":
        predict_fns = with_interval(predict_fns, manifest.interval)
    return Model(
        name=manifest.name,
        version=manifest.version,
        hash=file.sha256,
        task=manifest.task,
        classes=manifest.classes,
        schema=manifest.feature_schema(),
        as_frame=manifest.fitted_with == "frame" and engine == "sklearn",
        created=manifest.created,
        predict_fn=predict_fns.predict,
        details_fn=predict_fns.with_details,
        outputs=manifest.outputs,
        interval=manifest.interval if predict_fns.with_details else None,
        # A model on a GPU waits for it.
        cpu_bound=set(onnx_providers) == {CPU_PROVIDER}
        if engine == "onnx"
        else manifest.artifact.format == "skops" and not trusted_types and manifest.code is None,
        engine=engine,
        output_reference=manifest.output_reference,
        monitored_outputs=manifest.monitored_outputs,
        held_out=manifest.held_out,
        importance=manifest.importance,
        confidence_threshold=manifest.confidence_threshold,
        duplicate_probability=manifest.duplicate_probability,
    )


def _load_estimator(
    bundle: Path, manifest: Manifest, code: OwnCode | None, *, trust_pickle: bool, trusted_types: Sequence[str]
) -> PredictFns:
    path = bundle / manifest.artifact.file
    raw = read_verified(path, manifest.artifact)
    check_libraries(bundle, manifest.libraries, manifest.estimator_libraries)
    estimator = load_artifact(
        raw, manifest.artifact.format, source=path,
        trust_pickle=trust_pickle, trusted_types=trusted_types, code=code,
    )  # fmt: skip
    try:
        _check_estimator(bundle, manifest, estimator)
        return make_predict_fns(estimator, manifest.task)
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(f"{path} contains a damaged estimator: {type(error).__name__}: {error}") from error


def _load_onnx(bundle: Path, manifest: Manifest, providers: Sequence[str]) -> tuple[ModelFile, PredictFns]:
    if manifest.onnx is None:
        raise BundleError(
            f"{bundle} contains no model for ONNX Runtime: pack it again with --onnx, or serve it with "
            "MODELTRACE_ENGINE=sklearn"
        )
    path = bundle / manifest.onnx.file
    session = open_session(read_verified(path, manifest.onnx), path, providers)
    try:
        return manifest.onnx, session_predict_fns(
            session,
            manifest.task,
            manifest.classes,
            manifest.feature_schema(),
            has_outputs=bool(manifest.outputs) and manifest.classes is not None,
        )
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _check_estimator(bundle: Path, manifest: Manifest, estimator: Any) -> None:  # noqa: ANN401  whatever was loaded
    """Check that the estimator is the one that `model.json` describes."""
    classes = classes_of(estimator, manifest.task)
    method = "transform" if manifest.task == "transformer" else "predict"
    # CatBoost sets n_features_in_ to 0 in a model that was loaded from a file.
    n_features = getattr(estimator, "n_features_in_", 0) or len(manifest.features)
    if not hasattr(estimator, method) or classes != manifest.classes or n_features != len(manifest.features):
        raise BundleError(
            f"{bundle}: {MANIFEST_FILE} does not describe the {type(estimator).__name__} in {manifest.artifact.file}: "
            "classes or features differ. Copy the bundle again"
        )


def verify_replaceable(bundle: Path, *, force: bool) -> None:
    """Verify that a bundle can be written to a folder.

    Raises:
        PackError: the folder exists and `force` is not set, or it is not a bundle.
    """
    if bundle.exists():
        if not force:
            raise PackError(f"{bundle} exists; choose another folder with --out, or replace it with --force")
        is_empty = bundle.is_dir() and not any(bundle.iterdir())
        if not is_empty and not (bundle / MANIFEST_FILE).is_file():
            raise PackError(f"{bundle} is not a bundle, so it is not replaced; choose another folder with --out")


def write_bundle(bundle: Path, manifest: Manifest, files: Mapping[str, bytes], *, force: bool = False) -> Path:
    """Write a bundle into a temporary folder, then rename the folder, so that no incomplete bundle is visible.

    Raises:
        PackError: the folder exists and `force` is not set, or it is not a bundle, or it cannot be written.
    """
    verify_replaceable(bundle, force=force)
    try:
        text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError as error:  # a number that is not finite, an unpaired surrogate
        raise PackError(f"{MANIFEST_FILE} cannot be written: {error}") from None
    try:
        bundle.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{bundle.name}-", dir=bundle.parent, ignore_cleanup_errors=True) as temporary:
            new, old = Path(temporary, "new"), Path(temporary, "old")
            new.mkdir()
            for name, content in files.items():
                (new / name).write_bytes(content)
            (new / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
            if bundle.exists():
                bundle.replace(old)
            new.replace(bundle)
    except OSError as error:
        raise PackError(f"{bundle} cannot be written: {os_reason(error)}") from None
    return bundle
