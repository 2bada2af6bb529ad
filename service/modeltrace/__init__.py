"""The model service: serves models over HTTP and exports telemetry of every prediction over OTLP.

In Python:

    modeltrace.pack(estimator, X, y, name="churn")     # write a bundle; `IntervalRegressor` adds models of quantiles
    modeltrace.load("churn").predict(X)                # predict in this process
    modeltrace.Client("http://127.0.0.1:8000")         # call a running service; `AsyncClient` for asyncio
    modeltrace.ModeltraceError                         # the base of all errors, such as `InvalidFeaturesError`

These names are imported when they are used, so that no process imports what only others need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from modeltrace.bundles.loaded_model import LoadedModel, load
    from modeltrace.bundles.pack import pack
    from modeltrace.bundles.quantile_models import IntervalRegressor
    from modeltrace.client.client import AsyncClient, Client
    from modeltrace.client.messages import ServiceError
    from modeltrace.client.service import UnreachableError
    from modeltrace.errors import InvalidFeaturesError, ModeltraceError

__all__ = [
    "AsyncClient",
    "Client",
    "IntervalRegressor",
    "InvalidFeaturesError",
    "LoadedModel",
    "ModeltraceError",
    "ServiceError",
    "UnreachableError",
    "load",
    "pack",
]

_MODULES: Final = {
    "AsyncClient": "modeltrace.client.client",
    "Client": "modeltrace.client.client",
    "IntervalRegressor": "modeltrace.bundles.quantile_models",
    "InvalidFeaturesError": "modeltrace.errors",
    "LoadedModel": "modeltrace.bundles.loaded_model",
    "ModeltraceError": "modeltrace.errors",
    "ServiceError": "modeltrace.client.messages",
    "UnreachableError": "modeltrace.client.service",
    "load": "modeltrace.bundles.loaded_model",
    "pack": "modeltrace.bundles.pack",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  whatever the name is
    """Import a public name."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
