"""Rules between packages: which package may import which."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def imports(folder: str) -> Iterator[tuple[Path, str]]:
    """Yield each file below a folder with each module that it imports by absolute name."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                for name in node.names:
                    yield path.relative_to(ROOT), name.name
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield path.relative_to(ROOT), node.module


def within(module: str, packages: tuple[str, ...]) -> bool:
    """Return whether a module is one of the packages or in one of them."""
    return any(module == package or module.startswith(package + ".") for package in packages)


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("service", ("modeltrace_hub", "hub", "stack", "tests", "bench")),
        ("hub", ("modeltrace", "service", "stack", "tests", "bench")),
        ("stack", ("modeltrace", "modeltrace_hub", "tests", "bench")),
        ("modeltrace_http", ("modeltrace", "modeltrace_hub", "stack", "tests", "bench", "opentelemetry")),
        ("service/modeltrace/inference", ("fastapi", "starlette", "uvicorn", "modeltrace.api", "modeltrace.app")),
        ("service/modeltrace/api", ("sklearn", "pandas", "numpy", "skops", "opentelemetry.sdk")),
        (
            "service/modeltrace/telemetry",
            (
                "fastapi",
                "starlette",
                "sklearn",
                "modeltrace.api",
                "modeltrace.inference",
                "modeltrace.sidecar",
                "modeltrace.store",
            ),
        ),
        (
            "service/modeltrace/store",
            ("fastapi", "starlette", "sklearn", "modeltrace.api", "modeltrace.inference", "modeltrace.sidecar"),
        ),
        (
            "service/modeltrace/evaluation",
            (
                "fastapi",
                "starlette",
                "httpx",
                "sklearn",
                "modeltrace.api",
                "modeltrace.inference",
                "modeltrace.sidecar",
            ),
        ),
        (
            "service/modeltrace/bundles/registry",
            ("fastapi", "starlette", "uvicorn", "sklearn", "modeltrace.api", "modeltrace.app", "modeltrace.store"),
        ),
        (
            "service/modeltrace/replay",
            ("fastapi", "starlette", "uvicorn", "sklearn", "typer", "modeltrace.api", "modeltrace.app"),
        ),
        (
            "service/modeltrace/client",
            ("modeltrace.api", "modeltrace.app", "modeltrace.server", "modeltrace.local", "sklearn"),
        ),
        ("service/modeltrace/local", ("modeltrace.api", "modeltrace.app", "modeltrace.server", "sklearn")),
    ],
)
def test_packages_do_not_import_forbidden_modules(folder: str, forbidden: tuple[str, ...]) -> None:
    """Hub and service share only OTLP; only some packages use HTTP or scikit-learn."""
    assert [(str(path), module) for path, module in imports(folder) if within(module, forbidden)] == []


# The packages of the service, each above those that it may import. Modules directly in `modeltrace` are below all
# packages, but for the wiring, which is above them.
LAYERS = (
    ("otel_env",),
    ("otlp",),
    ("telemetry",),
    ("store", "inference"),
    ("tables",),
    ("sidecar", "bundles", "evaluation"),
    ("monitoring", "replay", "client", "protocols"),
    ("serving", "doctor", "traffic"),
    ("api", "report", "local", "scoring"),
    ("cli",),
)
WIRING = {"app", "server", "worker", "__main__"}


def test_imports_lead_downward() -> None:
    """A package of the service imports only packages of lower layers, and no package imports the wiring."""
    layer = {package: number for number, packages in enumerate(LAYERS) for package in packages}
    upward = []
    for path, module in imports("service"):
        source, target = path.parts[2], module.split(".")
        if target[0] != "modeltrace" or len(target) == 1 or source not in layer:
            continue
        if target[1] in WIRING or (target[1] in layer and target[1] != source and layer[target[1]] >= layer[source]):
            upward.append((path.as_posix(), module))

    assert {path.parts[2] for path, _ in imports("service/modeltrace") if len(path.parts) > 3} == layer.keys()
    assert upward == []


def module_graph() -> dict[str, set[str]]:
    """Return the modules that each module of the product imports, also for types and within functions."""
    folders = {"modeltrace": "service", "modeltrace_hub": "hub", "modeltrace_http": ".", "stack": "."}
    files = {
        ".".join(path.relative_to(ROOT / base).with_suffix("").parts): path
        for package, base in folders.items()
        for path in (ROOT / base / package).rglob("*.py")
    }
    graph: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                graph[name] |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} & files.keys()
            elif isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & files.keys()
    return graph


@pytest.mark.slow
def test_modules_import_each_other_in_no_circle() -> None:
    """Imports for types count, too: a reader of one of the modules would need the others."""
    graph = module_graph()
    outside = {""}
    while outside:  # remove the modules below and above all circles
        imported = set().union(*graph.values())
        outside = {name for name, imports in graph.items() if not imports & graph.keys() or name not in imported}
        graph = {name: imports - outside for name, imports in graph.items() if name not in outside}

    assert sorted(graph) == []


def test_modules_are_short() -> None:
    """No module of the product has more than 300 lines."""
    folders = ("service", "hub", "modeltrace_http", "stack", "bench", "deploy")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]

    assert [str(path.relative_to(ROOT)) for path in files if len(path.read_text().splitlines()) > 300] == []


@pytest.mark.slow
def test_mlflow_has_a_process_of_its_own() -> None:
    """Only two modules import MLflow, and no other module of the service imports these two."""
    users = {str(path) for path, module in imports("service") if within(module, ("mlflow",))}

    assert users == {f"service/modeltrace/bundles/{name}.py" for name in ("registry/mlflow_process", "pyfunc_model")}
    unused = ("modeltrace.bundles.registry.mlflow_process", "modeltrace.bundles.pyfunc_model")
    assert not [path for path, module in imports("service") if within(module, unused)]


def test_skops_is_imported_in_one_place() -> None:
    """The first import of skops determines whether it imports all of scikit-learn."""
    users = {str(path) for path, module in imports("service") if within(module, ("skops",))}

    assert users == {"service/modeltrace/bundles/skops_io.py"}


def test_providers_are_built_in_one_place() -> None:
    """The OpenTelemetry SDK is imported by service/modeltrace/telemetry alone."""
    users = {path.parts[:3] for path, module in imports("service") if within(module, ("opentelemetry.sdk",))}

    assert users == {("service", "modeltrace", "telemetry")}


def test_helpers_of_tests_are_in_one_package() -> None:
    """Tests import no modules of `tests` except those of `tests/helpers`."""
    outside = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.parent != ROOT / "tests" / "helpers"
        if not path.name.startswith("test_") and path.name not in ("conftest.py", "fuzz.py")
    ]
    imported = [
        (str(path), module)
        for path, module in imports("tests")
        if within(module, ("tests", "conftest")) and not within(module, ("tests.helpers",))
    ]

    assert outside == []
    assert imported == []


def test_only_the_command_line_reads_arguments() -> None:
    """Only entry points read `sys.argv`, and the report programs, which run in the environment of another library."""
    readers = [
        str(path.relative_to(ROOT))
        for folder in ("service", "hub")
        for path in (ROOT / folder).rglob("*.py")
        if path.parent != ROOT / "service" / "modeltrace" / "report" / "programs"
        if "sys.argv" in path.read_text() and path.name not in ("cli.py", "__main__.py")
    ]

    assert readers == []
