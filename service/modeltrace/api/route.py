"""The path of a request, relative to the root path."""

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """Return the path of a request without the root path that a proxy adds."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root else path
