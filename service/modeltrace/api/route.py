"""The path of a request as the service's routes have it."""

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """Return the path of a request without what a proxy publishes the service below."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root else path
