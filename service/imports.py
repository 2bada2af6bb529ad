"""Imports what a process needs from start to end, in less time."""

import gc
import sys
from pkgutil import resolve_name
from typing import Any


def load(target: str) -> Any:  # noqa: ANN401  whatever the target is
    """Import what `MODULE:NAME` means.

    Modules live as long as the process. The garbage collector would look at all that has been imported again and again
    while more is imported, which is a tenth of the time, and find nothing: it rests meanwhile, and leaves alone what
    has been imported.

    Raises:
        ImportError: there is no such module.
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
