"""Run routes with expensive queries in a few threads, so that the others never wait for a thread or a cursor.

An expensive request waits in the event loop until fewer than `MAX_EXPENSIVE` others run. While it waits, it holds no
thread and no cursor of the store. Load therefore delays it, but does not refuse it.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import Request

from modeltrace_hub.queries.list_parameters import LineFilter
from modeltrace_hub.store import MAX_READERS

# The other cursors are for requests that read little, such as a trace by its ID or a list without a filter.
MAX_EXPENSIVE: Final = MAX_READERS // 2

# The parameters of pages with which they read many records: a filter line, and a selection that is explained.
_EXPENSIVE_PARAMETERS: Final = ("filter", "select.")

Endpoint = Callable[..., Any]


class QueryLimits:
    """Limit the number of expensive requests that run at the same time."""

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(MAX_EXPENSIVE)

    def expensive(self, endpoint: Endpoint) -> Endpoint:
        """Return a route that runs a blocking endpoint as an expensive request."""
        return self._wrap(endpoint, lambda _: True)

    def expensive_if_filtered(self, endpoint: Endpoint) -> Endpoint:
        """Return a route that runs a blocking endpoint as an expensive request if it filters records."""
        return self._wrap(endpoint, lambda arguments: any(map(_is_filter, arguments.values())))

    def _wrap(self, endpoint: Endpoint, is_expensive: Callable[[dict[str, Any]], bool]) -> Endpoint:
        async def route(**arguments: Any) -> Any:  # noqa: ANN401  the parameters and result of any route
            limiter = self._limiter if is_expensive(arguments) else None
            return await to_thread.run_sync(partial(endpoint, **arguments), limiter=limiter)

        route.__name__, route.__doc__ = endpoint.__name__, endpoint.__doc__
        vars(route)["__signature__"] = inspect.signature(endpoint)  # FastAPI reads the parameters from it
        return route


def _is_filter(argument: object) -> bool:
    if isinstance(argument, Request):
        return any(value and name.startswith(_EXPENSIVE_PARAMETERS) for name, value in argument.query_params.items())
    return isinstance(argument, LineFilter) and bool(argument.conditions)
