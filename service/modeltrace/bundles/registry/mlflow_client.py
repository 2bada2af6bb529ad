"""Call MLflow in a separate process, which is started at the first call."""

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

# By default MLflow retries for four minutes, with a timeout of two minutes per request.
RETRY_LIMITS: Final = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
QUIET: Final = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "ERROR", "GIT_PYTHON_REFRESH": "quiet"}
SETTING_NAMES: Final = "MLFLOW_TRACKING_URI, MLFLOW_REGISTRY_URI"
# Seconds to wait for the process after SIGTERM.
SHUTDOWN_TIMEOUT: Final = 2.0


class MlflowClient:
    """Client of the MLflow registry that MLflow's own variables configure. Thread-safe; calls run one at a time."""

    def __init__(self) -> None:
        """Create the client without starting the process."""
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stderr: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, **arguments: Any) -> Any:  # noqa: ANN401  what JSON can carry
        """Call a function of `modeltrace.bundles.registry.mlflow_process` and return its result.

        Raises:
            SettingsError: MLflow is not installed.
            BundleNotFoundError: the model, version or file does not exist.
            RegistryUnavailableError: the registry or its artifact store cannot be reached.
        """
        with self._lock:
            process = self._ensure_process()
            try:
                print(json.dumps({"method": method, **arguments}), file=process.stdin, flush=True)
                line = process.stdout.readline()  # type: ignore[union-attr]  # a pipe
            except (OSError, ValueError):  # the process has ended, or another thread has closed it
                line = ""
            if not line:
                raise self._exit_error()
        response = json.loads(line)
        if "error" not in response:
            return response["result"]
        if response["error"] == "not_found":
            raise BundleNotFoundError(response["message"])
        raise RegistryUnavailableError(f"{response['message']} ({SETTING_NAMES})")

    def close(self) -> None:
        """Stop the process, if it is running. A call that is waiting raises RegistryUnavailableError."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(SHUTDOWN_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(OSError):  # a request that the process has not read
            process.stdin.close()  # type: ignore[union-attr]  # a pipe
        process.stdout.close()  # type: ignore[union-attr]  # a pipe
        self._stderr.close()

    def _ensure_process(self) -> "subprocess.Popen[str]":
        if self._process is None:
            if find_spec("mlflow") is None:
                raise SettingsError("models:/… needs MLflow. Install it with: pip install 'modeltrace[mlflow]'")
            # Remove the OpenTelemetry settings of the service. Otherwise MLflow would export traces with them.
            environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
            self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
            self._process = subprocess.Popen(
                [sys.executable, "-m", "modeltrace.bundles.registry.mlflow_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**RETRY_LIMITS, **environment, **QUIET},
                text=True,
                start_new_session=True,  # Ctrl-C must reach only the service, which stops the process
            )
        return self._process

    def _exit_error(self) -> RegistryUnavailableError:
        """Return the error for a process that has ended; the next call starts another one."""
        process = self._process
        if process is None:
            return RegistryUnavailableError("the MLflow process was stopped, because the service is shutting down")
        code = process.wait()
        self._stderr.seek(0)
        last_line = (self._stderr.read().strip().splitlines() or ["no output"])[-1]
        self.close()
        return RegistryUnavailableError(f"the MLflow process has ended (exit code {code}): {last_line}")
