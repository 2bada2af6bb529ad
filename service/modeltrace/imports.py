"""Import a module with garbage collection disabled, or find out whether an optional one exists."""

import gc
import sys
from pkgutil import resolve_name
from typing import Any


def import_object(target: str) -> Any:  # noqa: ANN401  whatever the target is
    """Import the object that `MODULE:NAME` refers to.

    Modules live until the process ends, so garbage collections during an import free almost nothing and take a tenth
    of its time. This function disables collection during the import, then freezes the imported objects.

    Raises:
        ImportError: the module does not exist.
        AttributeError: the module has no such name.
    """
    if target.partition(":")[0] in sys.modules or not gc.isenabled():
        return resolve_name(target)
    gc.disable()
    try:
        return resolve_name(target)
    finally:
        gc.freeze()
        gc.enable()


def has_pyarrow() -> bool:
    """Return whether pyarrow, the extra `arrow`, can be imported."""
    try:
        import_object("pyarrow")
    except ModuleNotFoundError:
        return False
    return True
