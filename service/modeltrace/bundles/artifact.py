"""Serialize an estimator and load it again, with skops or joblib.

skops checks all types in a file before it builds any object. A joblib file can run any code, so it is loaded only if
the operator trusts it.
"""

import io
import pickle
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Literal
from zipfile import ZipFile

import joblib
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from modeltrace.bundles.code.archive import CodeArchive
from modeltrace.bundles.code.importer import OwnCode
from modeltrace.bundles.code.main_module import MAIN_ADVICE, check_main_module
from modeltrace.bundles.library_packages import EXTRAS, install_command
from modeltrace.bundles.proxies.replacement import replace_parts, restore_parts
from modeltrace.bundles.skops_archive import canonicalize, rename_modules, set_comment
from modeltrace.bundles.skops_io import skops_io
from modeltrace.bundles.tree_validation import validate_trees, walk_objects
from modeltrace.bundles.trusted_types import REVIEWED_TYPES, untrusted_types
from modeltrace.errors import BundleError, IncompatibleBundleError, PackError, UntrustedModelError

ArtifactFormat = Literal["skops", "joblib"]

# Maximum ratio of unpacked size to file size. The ratio is about 5 for a model, and about 1,000 for a ZIP bomb.
MAX_EXPANSION_RATIO = 50


def dump_artifact(
    estimator: Any,  # noqa: ANN401  any estimator
    artifact_format: ArtifactFormat,
    *,
    trusted_types: Sequence[str] = (),
    code: CodeArchive | None = None,
) -> bytes:
    """Serialize an estimator.

    Args:
        estimator: the estimator.
        artifact_format: the format.
        trusted_types: dotted names of types that are trusted, in addition to the reviewed ones.
        code: the archive with the user's modules. The artifact ends with its SHA-256, so that a model with other code
            has another hash. The types of these modules are trusted.

    Raises:
        PackError: the format cannot represent the estimator, or the estimator contains types that are not trusted.
    """
    check_main_module(estimator)
    if artifact_format == "joblib":
        try:
            return _dump_pickle(estimator, code)
        except Exception as error:
            raise PackError(
                f"cannot pickle this {type(estimator).__name__} ({type(error).__name__}: {error}). Define its "
                "functions and classes at the top level of a module, not inside a function or as a lambda"
            ) from error
    remedy = "pack it with --format joblib and serve it with MODELTRACE_TRUST_PICKLE=true"
    try:
        raw = canonicalize(skops_io.dumps(replace_parts(estimator)))
        untrusted = [name for name in untrusted_types(raw, trusted_types) if code is None or not code.contains(name)]
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
    return raw if code is None else set_comment(raw, code.sha256.encode())


def _dump_pickle(estimator: Any, code: CodeArchive | None) -> bytes:  # noqa: ANN401  any estimator
    """Pickle an estimator. With code, it is a plain pickle, whose unpickler can translate the names of modules."""
    if code is not None:
        return pickle.dumps(estimator, protocol=pickle.HIGHEST_PROTOCOL) + code.sha256.encode()
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def load_artifact(
    raw: bytes,
    artifact_format: ArtifactFormat,
    *,
    source: object,
    trust_pickle: bool = False,
    trusted_types: Sequence[str] = (),
    code: OwnCode | None = None,
) -> Any:  # noqa: ANN401  any estimator
    """Load an estimator from bytes, if its format and its types are trusted.

    Args:
        raw: the content of the file.
        artifact_format: the format of `raw`; joblib also reads plain pickles.
        source: the name of the file in error messages.
        trust_pickle: allow joblib, which can run any code.
        trusted_types: dotted names of types that skops may build, in addition to the reviewed ones.
        code: the user's modules of the bundle. Their types are trusted.

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
    if code is not None and not raw.endswith(code.sha256.encode()):
        raise BundleError(f"{source} was packed with other modules than those in the bundle. Pack the model again")
    try:
        if artifact_format == "joblib":
            load = joblib.load if code is None else partial(_load_pickle, code)
            return _build(lambda: load(io.BytesIO(raw)), source)
        _check_expansion(raw, source)
        own_types = _check_types(raw, source, trusted_types, code)
        if code is not None:
            raw = rename_modules(raw, code.internal_name)
        trusted = [*REVIEWED_TYPES, *trusted_types, *own_types]
        estimator = restore_parts(_build(lambda: skops_io.loads(raw, trusted=trusted), source))
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
            f". The model needs the module {error.name}: install it{command}, or, if it is your own code, pack it "
            "with --code and its folder"
        )
    if isinstance(error, AttributeError) and "__main__" in str(error):
        return f". The model contains a class or function that {MAIN_ADVICE}"
    if isinstance(error, AttributeError | ImportError):
        return (
            ". The model contains a class or function that the installed module does not have: install the version of "
            "the library that the model was made with; for your own code, pack it with --code and its folder"
        )
    return ""


def _check_expansion(raw: bytes, source: object) -> None:
    with ZipFile(io.BytesIO(raw)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MAX_EXPANSION_RATIO * len(raw):
        raise BundleError(
            f"{source} would unpack to {unpacked:,} bytes, {unpacked // len(raw)} times its size; it is not loaded"
        )


class _Unpickler(pickle.Unpickler):
    """Finds the user's modules under the names that they have in this process."""

    def __init__(self, code: OwnCode, file: io.BytesIO) -> None:
        super().__init__(file)
        self._code = code

    def find_class(self, module_name: str, global_name: str, /) -> Any:  # noqa: ANN401  any class or function
        """Return a class or function of a module."""
        return super().find_class(self._code.internal_name(module_name), global_name)


def _load_pickle(code: OwnCode, file: io.BytesIO) -> Any:  # noqa: ANN401  any estimator
    return _Unpickler(code, file).load()


def _check_types(raw: bytes, source: object, trusted_types: Sequence[str], code: OwnCode | None) -> list[str]:
    """Return the types of the user's modules, by the names that they have in this process.

    Raises:
        UntrustedModelError: there are other types that are not trusted.
    """
    untrusted = untrusted_types(raw, trusted_types)
    own_types = [name for name in untrusted if code is not None and code.contains(name)]
    if untrusted := [name for name in untrusted if name not in own_types]:
        raise UntrustedModelError(
            f"{source} contains types that are not trusted: {', '.join(untrusted)}. "
            f"If you trust them, set MODELTRACE_TRUSTED_TYPES={','.join(untrusted)}"
        )
    return [] if code is None else list(map(code.internal_name, own_types))


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
