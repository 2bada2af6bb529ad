"""Asks the process that speaks with MLflow, and starts it when it is first asked."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from threading import Lock
from typing import Any, Final, Self

from modeltrace.errors import BundleNotFoundError, RegistryUnavailableError, SettingsError

# What MLflow would do otherwise: ask again for four minutes, and wait for each answer for two.
RETRY_LIMITS: Final = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
QUIET_SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
}
SETTING_NAMES: Final = "MLFLOW_TRACKING_URI, MLFLOW_REGISTRY_URI"
# Seconds that it may take to end by itself.
SHUTDOWN_TIMEOUT: Final = 2.0


class MlflowClient:
    """MLflow's registry, as its own variables name it. Of any thread, one question at a time."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stderr: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, **arguments: Any) -> Any:  # noqa: ANN401  what JSON can carry
        """Ask one of the calls of `modeltrace.bundles.registry.mlflow_process`.

        Raises:
            SettingsError: MLflow is not installed.
            BundleNotFoundError: the registry does not have it.
            RegistryUnavailableError: the registry, or where it keeps files, cannot be reached.
        """
        with self._lock:
            process = self._ensure_process()
            try:
                print(json.dumps({"method": method, **arguments}), file=process.stdin, flush=True)
                line = process.stdout.readline()  # type: ignore[union-attr]  # a pipe
            except (OSError, ValueError):  # it is gone, or closed by another thread
                line = ""
            if not line:
                raise self._exit_error()
        said = json.loads(line)
        if "error" not in said:
            return said["result"]
        if said["error"] == "not_found":
            raise BundleNotFoundError(said["message"])
        raise RegistryUnavailableError(f"{said['message']} ({SETTING_NAMES})")

    def close(self) -> None:
        """End the process, if there is one. Whoever waits for an answer hears that there is none."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(SHUTDOWN_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(OSError):  # a question that it did not take
            process.stdin.close()  # type: ignore[union-attr]  # a pipe
        process.stdout.close()  # type: ignore[union-attr]  # a pipe
        self._stderr.close()

    def _ensure_process(self) -> "subprocess.Popen[str]":
        if self._process is None:
            if find_spec("mlflow") is None:
                raise SettingsError("models:/… needs MLflow: pip install 'modeltrace[mlflow]'")
            # None of the service's own telemetry settings: MLflow would send traces by them.
            outer = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
            self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
            self._process = subprocess.Popen(
                [sys.executable, "-m", "modeltrace.bundles.registry.mlflow_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**RETRY_LIMITS, **outer, **QUIET_SETTINGS},
                text=True,
                start_new_session=True,  # Ctrl-C is for the service, which ends it
            )
        return self._process

    def _exit_error(self) -> RegistryUnavailableError:
        """What to say of a process that is gone; the next question starts another one."""
        process = self._process
        if process is None:
            return RegistryUnavailableError("no more is asked of MLflow: the service ends")
        code = process.wait()
        self._stderr.seek(0)
        last = (self._stderr.read().strip().splitlines() or ["it says nothing"])[-1]
        self.close()
        return RegistryUnavailableError(f"what speaks with MLflow has ended (exit code {code}): {last}")
