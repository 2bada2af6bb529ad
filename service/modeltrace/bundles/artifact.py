"""An estimator as bytes, and back: skops, whose types are checked before anything is built, or joblib when trusted."""

import io
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Literal
from zipfile import ZipFile

import joblib
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from modeltrace.bundles.skops_archive import canonicalize
from modeltrace.bundles.skops_io import skops_io
from modeltrace.bundles.tree_validation import validate_trees, walk_objects
from modeltrace.bundles.trusted_types import REVIEWED_TYPES, untrusted_types
from modeltrace.errors import BundleError, IncompatibleBundleError, PackError, UntrustedModelError

ArtifactFormat = Literal["skops", "joblib"]

# Times the file's size. skops compresses only when told to; then a model shrinks to a fifth, a bomb to a thousandth.
MAX_EXPANSION_RATIO = 50


def dump_artifact(estimator: Any, artifact_format: ArtifactFormat, *, trusted_types: Sequence[str] = ()) -> bytes:  # noqa: ANN401  any estimator
    """Write an estimator.

    Raises:
        PackError: it holds what the format cannot carry, or types that nobody would be allowed to load.
    """
    if artifact_format == "joblib":
        sink = io.BytesIO()
        try:
            joblib.dump(estimator, sink)
        except Exception as error:
            raise PackError(
                f"this {type(estimator).__name__} cannot be pickled ({type(error).__name__}: {error}); functions and "
                "classes in it must be defined at the top of a module, not inside a function or as a lambda"
            ) from error
        return sink.getvalue()
    way_out = "pack it with --format joblib and serve it with MODELTRACE_TRUST_PICKLE=true"
    try:
        raw = canonicalize(skops_io.dumps(estimator))
        unknown = untrusted_types(raw, trusted_types)
    except Exception as error:
        raise PackError(
            f"skops cannot write this {type(estimator).__name__} ({type(error).__name__}: {error}); {way_out}"
        ) from error
    if unknown:
        raise PackError(
            f"the estimator holds types that are not reviewed: {', '.join(unknown)}. If you know them, set "
            f"MODELTRACE_TRUSTED_TYPES={','.join(unknown)} here and where it is served; or {way_out}"
        )
    return raw


def load_artifact(
    raw: bytes,
    artifact_format: ArtifactFormat,
    *,
    source: object,
    trust_pickle: bool = False,
    trusted_types: Sequence[str] = (),
) -> Any:  # noqa: ANN401  any estimator
    """Build an estimator from bytes, if it is allowed.

    Args:
        raw: the bytes.
        artifact_format: the format of `raw`; joblib reads plain pickles too.
        source: what an error message calls them.
        trust_pickle: build from joblib, which can run any code.
        trusted_types: dotted names of types that skops may build beyond scikit-learn's own.

    Raises:
        UntrustedModelError: nobody has allowed it; nothing was built.
        IncompatibleBundleError: it is from another minor version of scikit-learn.
        BundleError: the bytes are not what `kind` says, or hold what no training produces.
    """
    if artifact_format == "joblib" and not trust_pickle:
        raise UntrustedModelError(
            f"{source} is a pickle, which can run any code when it is loaded. "
            "If you made it yourself: --trust-pickle, or MODELTRACE_TRUST_PICKLE=true"
        )
    try:
        if artifact_format == "joblib":
            return _deserialize(raw, artifact_format, source, ())
        _check_expansion(raw, source)
        _check_types(raw, source, trusted_types)
        estimator = _deserialize(raw, artifact_format, source, trusted_types)
        validate_trees(estimator)
        _clear_memory(estimator)
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(
            f"cannot load {source} as {artifact_format}: {type(error).__name__}: {error}{_missing_code_hint(error)}"
        ) from error
    return estimator


def _missing_code_hint(error: Exception) -> str:
    """What to do where a pickle names code that is not here."""
    if isinstance(error, ModuleNotFoundError):
        return (
            f". The model was made with the module {error.name}: install it, or, if it is your own code, name its "
            "folder in PYTHONPATH, here and where the model is served"
        )
    if isinstance(error, AttributeError) and "__main__" in str(error):
        return (
            ". The model holds a class or function of the script or notebook that fitted it (`__main__`), which no "
            "other program has: move it into a module (a .py file), import it from there, fit and save the model "
            "again, and name the module's folder in PYTHONPATH, here and where the model is served"
        )
    if isinstance(error, AttributeError | ImportError):
        return (
            ". The model holds a class or function that its module does not have here: install the version of the "
            "library that it was made with; for your own code, see that PYTHONPATH names the right folder"
        )
    return ""


def _check_expansion(raw: bytes, source: object) -> None:
    with ZipFile(io.BytesIO(raw)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MAX_EXPANSION_RATIO * len(raw):
        raise BundleError(
            f"{source} would unpack to {unpacked:,} bytes, {unpacked // len(raw)} times its size: refused"
        )


def _check_types(raw: bytes, source: object, trusted_types: Sequence[str]) -> None:
    if unknown := untrusted_types(raw, trusted_types):
        raise UntrustedModelError(
            f"{source} holds types that nobody has allowed: {', '.join(unknown)}. "
            f"If you know them: MODELTRACE_TRUSTED_TYPES={','.join(unknown)}"
        )


def _clear_memory(estimator: Any) -> None:  # noqa: ANN401  any estimator
    """Take away every `memory`: a folder of pickles that fitting reads, and that answering does without.

    An estimator calls others by method names that it keeps (`response_method`, `stack_method_`), and a forged one of
    them is `fit`: it would load what lies in a folder of the artifact's choice.
    """
    for part in walk_objects(estimator):
        if isinstance(part, BaseEstimator) and getattr(part, "memory", None) is not None:
            part.memory = None


def _deserialize(raw: bytes, artifact_format: ArtifactFormat, source: object, trusted_types: Sequence[str]) -> Any:  # noqa: ANN401  any estimator
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InconsistentVersionWarning)
        if artifact_format == "joblib":
            estimator = joblib.load(io.BytesIO(raw))
        else:
            estimator = skops_io.loads(raw, trusted=[*REVIEWED_TYPES, *trusted_types])
    for warning in caught:
        if not isinstance(warning.message, InconsistentVersionWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif minor_version(warning.message.original_sklearn_version) != minor_version(version("scikit-learn")):
            raise IncompatibleBundleError(
                f"{source} was made with scikit-learn {warning.message.original_sklearn_version}, here is "
                f"{version('scikit-learn')}: answers could differ. Fit it anew here, or install that version"
            )
    return estimator


def minor_version(text: str) -> list[str]:
    """Major and minor: within them, scikit-learn keeps what it has fitted readable."""
    return text.split(".")[:2]
