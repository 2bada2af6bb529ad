"""What a worker process builds, in a module that costs nothing to import.

The supervisor pings a new worker before the application is built, and replaces one that does not answer. Importing
scikit-learn takes longer than that on a busy machine, so it happens when the application is built, not when this
module is unpickled.
"""

import logging
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from uvicorn.config import STARTUP_FAILURE

from modeltrace.errors import ModeltraceError
from modeltrace.imports import import_object
from modeltrace.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def build_in_worker(settings: Settings) -> "ASGIApp":
    """Build the application, or end this worker in the way that stops the supervisor, too."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it looks by itself once the versions are watched
    build_app: Callable[[Settings], ASGIApp] = import_object("modeltrace.app:build_app")
    try:
        return build_app(settings)
    except ModeltraceError as error:
        logging.getLogger("modeltrace").error("%s", error)  # noqa: TRY400  the message says all
        sys.exit(STARTUP_FAILURE)
