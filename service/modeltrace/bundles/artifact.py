"""Serialize an estimator and load it again, with skops or joblib.

skops checks all types in a file before it builds any object. A joblib file can run any code, so it is loaded only if
the operator trusts it.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Literal
from zipfile import ZipFile

import joblib
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from modeltrace.bundles.distributions import EXTRAS, install_command
from modeltrace.bundles.proxies.replacement import replace_parts, restore_parts
from modeltrace.bundles.skops_archive import canonicalize
from modeltrace.bundles.skops_io import skops_io
from modeltrace.bundles.tree_validation import validate_trees, walk_objects
from modeltrace.bundles.trusted_types import REVIEWED_TYPES, untrusted_types
from modeltrace.errors import BundleError, IncompatibleBundleError, PackError, UntrustedModelError

ArtifactFormat = Literal["skops", "joblib"]

# Maximum ratio of unpacked size to file size. The ratio is about 5 for a model, and about 1,000 for a ZIP bomb.
MAX_EXPANSION_RATIO = 50


def dump_artifact(estimator: Any, artifact_format: ArtifactFormat, *, trusted_types: Sequence[str] = ()) -> bytes:  # noqa: ANN401  any estimator
    """Serialize an estimator.

    Raises:
        PackError: the format cannot represent the estimator, or the estimator contains types that are not trusted.
    """
    if artifact_format == "joblib":
        buffer = io.BytesIO()
        try:
            joblib.dump(estimator, buffer)
        except Exception as error:
            raise PackError(
                f"cannot pickle this {type(estimator).__name__} ({type(error).__name__}: {error}). Define its "
                "functions and classes at the top level of a module, not inside a function or as a lambda"
            ) from error
        return buffer.getvalue()
    remedy = "pack it with --format joblib and serve it with MODELTRACE_TRUST_PICKLE=true"
    try:
        raw = canonicalize(skops_io.dumps(replace_parts(estimator)))
        untrusted = untrusted_types(raw, trusted_types)
    except PackError:
        raise
    except Exception as error:
        raise PackError(
            f"skops cannot write this {type(estimator).__name__} ({type(error).__name__}: {error}); {remedy}"
        ) from error
    if untrusted:
        raise PackError(
            f"the estimator contains types that are not trusted: {', '.join(untrusted)}. If you trust them, set "
            f"MODELTRACE_TRUSTED_TYPES={','.join(untrusted)} for `pack` and for the service; or {remedy}"
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
    """Load an estimator from bytes, if its format and its types are trusted.

    Args:
        raw: the content of the file.
        artifact_format: the format of `raw`; joblib also reads plain pickles.
        source: the name of the file in error messages.
        trust_pickle: allow joblib, which can run any code.
        trusted_types: dotted names of types that skops may build, in addition to the reviewed ones.

    Raises:
        UntrustedModelError: the format or a type is not trusted; nothing was built.
        IncompatibleBundleError: another minor version of scikit-learn wrote it.
        BundleError: the bytes do not have this format, or contain a decision tree that training cannot produce.
    """
    if artifact_format == "joblib" and not trust_pickle:
        raise UntrustedModelError(
            f"{source} is a pickle, which can run any code when it is loaded. "
            "If you made it yourself, allow it with --trust-pickle or MODELTRACE_TRUST_PICKLE=true"
        )
    try:
        if artifact_format == "joblib":
            return _build(lambda: joblib.load(io.BytesIO(raw)), source)
        _check_expansion(raw, source)
        _check_types(raw, source, trusted_types)
        loaded = _build(lambda: skops_io.loads(raw, trusted=[*REVIEWED_TYPES, *trusted_types]), source)
        estimator = restore_parts(loaded)
        validate_trees(estimator)
        _clear_memory(estimator)
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(
            f"{source} cannot be loaded as {artifact_format}: {type(error).__name__}: {error}"
            f"{_missing_code_hint(error)}"
        ) from error
    return estimator


def _missing_code_hint(error: Exception) -> str:
    """Explain what to do if a pickle refers to code that is not installed; "" for other errors."""
    if isinstance(error, ModuleNotFoundError):
        library = str(error.name).partition(".")[0]
        command = f" ({install_command(library)})" if library in EXTRAS else ""
        return (
            f". The model needs the module {error.name}: install it{command}, or, if it is your own code, add its "
            "folder to PYTHONPATH, here and where the model is served"
        )
    if isinstance(error, AttributeError) and "__main__" in str(error):
        return (
            ". The model contains a class or function from the script or notebook that fitted it (`__main__`), which "
            "other programs cannot import: move it into a module (a .py file), import it from there, fit and save the "
            "model again, and add the module's folder to PYTHONPATH, here and where the model is served"
        )
    if isinstance(error, AttributeError | ImportError):
        return (
            ". The model contains a class or function that the installed module does not have: install the version of "
            "the library that the model was made with; for your own code, check that PYTHONPATH is the right folder"
        )
    return ""


def _check_expansion(raw: bytes, source: object) -> None:
    with ZipFile(io.BytesIO(raw)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MAX_EXPANSION_RATIO * len(raw):
        raise BundleError(
            f"{source} would unpack to {unpacked:,} bytes, {unpacked // len(raw)} times its size; it is not loaded"
        )


def _check_types(raw: bytes, source: object, trusted_types: Sequence[str]) -> None:
    if untrusted := untrusted_types(raw, trusted_types):
        raise UntrustedModelError(
            f"{source} contains types that are not trusted: {', '.join(untrusted)}. "
            f"If you trust them, set MODELTRACE_TRUSTED_TYPES={','.join(untrusted)}"
        )


def _clear_memory(estimator: Any) -> None:  # noqa: ANN401  any estimator
    """Set every `memory` parameter to None. It names a folder of pickles; only `fit` reads it.

    Some estimators call a method whose name is in an attribute (`response_method`, `stack_method_`). A forged file
    could make such an attribute name `fit`, and make `memory` name a folder with malicious pickles.
    """
    for part in walk_objects(estimator):
        if isinstance(part, BaseEstimator) and getattr(part, "memory", None) is not None:
            part.memory = None


def _build(load: Callable[[], Any], source: object) -> Any:  # noqa: ANN401  any estimator
    """Load an estimator, and refuse one from another minor version of scikit-learn."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InconsistentVersionWarning)
        estimator = load()
    for warning in caught:
        if not isinstance(warning.message, InconsistentVersionWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif minor_version(warning.message.original_sklearn_version) != minor_version(version("scikit-learn")):
            raise IncompatibleBundleError(
                f"{source} was made with scikit-learn {warning.message.original_sklearn_version}, but "
                f"{version('scikit-learn')} is installed, which may predict otherwise. Fit the model again with the "
                "installed version, or install that version"
            )
    return estimator


def minor_version(text: str) -> list[str]:
    """Return major and minor version. scikit-learn loads fitted estimators only from the same minor version."""
    return text.split(".")[:2]
