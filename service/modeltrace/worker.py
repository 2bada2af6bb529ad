"""Build the application in a worker process. This module imports nothing heavy.

The supervisor pings a new worker before it builds the application, and replaces a worker that does not respond.
Importing scikit-learn takes longer than the ping timeout on a busy machine, so scikit-learn is imported when the
application is built, not when this module is unpickled.
"""

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from uvicorn.config import STARTUP_FAILURE

from modeltrace.errors import ModeltraceError
from modeltrace.imports import import_object
from modeltrace.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def build_in_worker(settings: Settings, shared_folder: Path) -> "ASGIApp":
    """Build the application. On failure, exit with the status that also stops the supervisor.

    Args:
        settings: the service's settings.
        shared_folder: the folder that all workers share.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the watcher starts, which then checks for new versions
    build_app: Callable[[Settings, Path], ASGIApp] = import_object("modeltrace.app:build_app")
    try:
        return build_app(settings, shared_folder)
    except ModeltraceError as error:
        logging.getLogger("modeltrace").error("%s", error)  # noqa: TRY400  the message is complete
        sys.exit(STARTUP_FAILURE)
