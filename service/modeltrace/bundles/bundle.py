"""Load a bundle after checking it, and write one."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from modeltrace.bundles.artifact import load_artifact
from modeltrace.bundles.libraries import check_libraries
from modeltrace.bundles.manifest import MANIFEST_FILE, Manifest, ModelFile, integrity_error, os_reason, read_manifest
from modeltrace.bundles.onnx.model import PredictFn, open_session, session_predict_fn
from modeltrace.errors import BundleError, BundleIntegrityError, BundleNotFoundError, PackError
from modeltrace.inference.model import Engine, Model, make_predict_fn, to_json_label
from modeltrace.regular_files import NotRegularError, read_regular, stat_regular


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
        raise BundleIntegrityError(
            f"{bundle / MANIFEST_FILE} has the SHA-256 {digest}, expected {expect_sha256}; it is not the pinned bundle"
        )
    if engine == "onnx":
        file, predict_fn = _load_onnx(bundle, manifest)
    else:
        file, predict_fn = manifest.artifact, _load_estimator(bundle, manifest, trust_pickle, trusted_types)
    return Model(
        name=manifest.name,
        version=manifest.version,
        hash=file.sha256,
        task=manifest.task,
        classes=manifest.classes,
        schema=manifest.feature_schema(),
        as_frame=manifest.fitted_with == "frame" and engine == "sklearn",
        created=manifest.created,
        predict_fn=predict_fn,
        cpu_bound=engine == "onnx" or (manifest.artifact.format == "skops" and not trusted_types),
        engine=engine,
        output_reference=manifest.output_reference,
        confidence_threshold=manifest.confidence_threshold,
        duplicate_probability=manifest.duplicate_probability,
    )


def _load_estimator(bundle: Path, manifest: Manifest, trust_pickle: bool, trusted_types: Sequence[str]) -> PredictFn:  # noqa: FBT001  passed on
    path = bundle / manifest.artifact.file
    raw = _read_verified(path, manifest.artifact)
    check_libraries(bundle, manifest.libraries, manifest.estimator_libraries)
    estimator = load_artifact(
        raw, manifest.artifact.format, source=path, trust_pickle=trust_pickle, trusted_types=trusted_types
    )
    try:
        _check_estimator(bundle, manifest, estimator)
        return make_predict_fn(estimator, manifest.task)
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(f"{path} holds a damaged estimator: {type(error).__name__}: {error}") from error


def _load_onnx(bundle: Path, manifest: Manifest) -> tuple[ModelFile, PredictFn]:
    if manifest.onnx is None:
        raise BundleError(
            f"{bundle} holds no model for ONNX Runtime: pack it anew with --onnx, or serve it with "
            "MODELTRACE_ENGINE=sklearn"
        )
    path = bundle / manifest.onnx.file
    session = open_session(_read_verified(path, manifest.onnx), path)
    try:
        return manifest.onnx, session_predict_fn(session, manifest.task, manifest.classes, manifest.feature_schema())
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _read_verified(path: Path, described: ModelFile) -> bytes:
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


def _check_estimator(bundle: Path, manifest: Manifest, estimator: Any) -> None:  # noqa: ANN401  whatever was loaded
    """That what was loaded is what `model.json` describes."""
    classes = None
    if manifest.task == "classifier":
        classes = tuple(to_json_label(label) for label in getattr(estimator, "classes_", ()))
    # 0 where it does not know: CatBoost says so of a model that was loaded.
    width = getattr(estimator, "n_features_in_", 0) or len(manifest.features)
    if not hasattr(estimator, "predict") or classes != manifest.classes or width != len(manifest.features):
        raise BundleError(
            f"{bundle}: {MANIFEST_FILE} and the {type(estimator).__name__} beside it do not belong together"
        )


def write_bundle(bundle: Path, manifest: Manifest, files: Mapping[str, bytes], *, force: bool = False) -> Path:
    """Write a bundle completely, then give the folder its name.

    Raises:
        PackError: the folder exists and `force` is not given, or it is no bundle, or it cannot be written.
    """
    if bundle.exists() and not force:
        raise PackError(f"{bundle} exists; choose another --out, or replace it with --force")
    if (
        bundle.exists()
        and not (bundle / MANIFEST_FILE).is_file()
        and not (bundle.is_dir() and not any(bundle.iterdir()))
    ):
        raise PackError(f"{bundle} exists and is no bundle, so it is not replaced; choose another --out")
    try:
        text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError as error:  # a number that is not finite, half a surrogate pair
        raise PackError(f"{MANIFEST_FILE} cannot be written: {error}") from None
    try:
        bundle.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(mkdtemp(prefix=f".{bundle.name}-", dir=bundle.parent))
    except OSError as error:
        raise PackError(f"{bundle} cannot be written: {os_reason(error)}") from None
    try:
        fresh, old = workplace / "fresh", workplace / "old"
        fresh.mkdir()
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        (fresh / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
        if bundle.exists():
            bundle.replace(old)
        fresh.replace(bundle)
    except OSError as error:
        raise PackError(f"{bundle} cannot be written: {os_reason(error)}") from None
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return bundle
