"""Find classes and functions of `__main__` in an estimator: other programs cannot import them."""

import io
import pickle
from types import FunctionType
from typing import Any, Final

from modeltrace.errors import PackError

MAIN_ADVICE: Final = (
    "is defined in the script or notebook that fitted the model (`__main__`), which other programs cannot import. Move "
    "it into a module (a .py file), import it from there, fit and save the model again, and pack it with --code and "
    "the folder of the module"
)


class _MainModuleError(Exception):
    """The estimator refers to a name of `__main__`."""


class _Discard(io.RawIOBase):
    """A file that stores nothing."""

    def writable(self) -> bool:
        """Accept everything."""
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401  any buffer
        """Discard the data."""
        return memoryview(data).nbytes


class _MainFinder(pickle.Pickler):
    """Fails at the first class or function of `__main__`."""

    def reducer_override(self, part: Any) -> Any:  # noqa: ANN401  any object
        """Return `NotImplemented`: the object is pickled as usual."""
        if isinstance(part, type | FunctionType) and part.__module__ == "__main__":
            raise _MainModuleError(part.__qualname__)
        return NotImplemented


def check_main_module(estimator: Any) -> None:  # noqa: ANN401  any estimator
    """Check that an estimator needs no class or function of `__main__`.

    Raises:
        PackError: it needs one; the message names it and says what to do.
    """
    try:
        _MainFinder(_Discard(), protocol=pickle.HIGHEST_PROTOCOL).dump(estimator)
    except _MainModuleError as error:
        raise PackError(f"the model contains {error}, which {MAIN_ADVICE}") from None
    except Exception:  # noqa: BLE001  the artifact's own format reports it
        return
