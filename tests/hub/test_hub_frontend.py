"""The scripts and styles of the pages: the bundles are built from their sources, and all files are small."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import modeltrace_hub
from tests.helpers.frontend import run_npm
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import span, trace_request

STATIC = Path(modeltrace_hub.__file__).parent / "web" / "static"
ISLANDS = STATIC / "islands"
# In bytes, compressed with gzip.
MAX_SCRIPTS = 60 * 1024
MAX_SCRIPTS_OF_A_PAGE = 25 * 1024
MAX_STYLES = 12 * 1024
# The page of a metric draws charts with a library, so only the total counts there.
WITH_CHARTS = "/metrics"
TRACE_ID = "5" * 32


@pytest.fixture(scope="module")
def hub() -> Iterator[HubPages]:
    """Yield the pages of a hub with one trace."""
    with hub_pages() as hub:
        yield hub


def compressed_size(files: set[Path]) -> int:
    """Return the size of files that are compressed one by one."""
    return sum(len(gzip.compress(file.read_bytes(), mtime=0)) for file in files)


def with_imports(file: Path) -> set[Path]:
    """Return a script and all scripts that it imports."""
    files, waiting = set(), [file]
    while waiting:
        script = waiting.pop()
        if script in files:
            continue
        files.add(script)
        imports = re.findall(r"""(?:\bfrom|\bimport)\s*\(?["'](\.[^"']+)["']""", script.read_text(encoding="utf-8"))
        waiting += [(script.parent / path).resolve() for path in imports]
    return files


@pytest.mark.extended
@pytest.mark.slow
def test_the_bundles_are_those_of_the_sources(tmp_path: Path) -> None:
    """`./dev frontend` writes exactly the committed files, licences included."""
    run_npm("build", tmp_path / "frontend", str(tmp_path / "built"))

    built = {file.name: file.read_bytes() for file in (tmp_path / "built").iterdir()}
    committed = {file.name: file.read_bytes() for file in ISLANDS.iterdir()}
    assert sorted(built) == sorted(committed)
    assert [name for name in built if built[name] != committed[name]] == [], "stale: run ./dev frontend"


@pytest.mark.extended
@pytest.mark.slow
def test_the_types_of_the_sources_are_right(tmp_path: Path) -> None:
    """The TypeScript compiler in its strict mode finds nothing."""
    run_npm("check", tmp_path / "frontend")


def test_all_scripts_and_styles_are_small() -> None:
    """All scripts together, and all styles together, stay within their budgets."""
    assert compressed_size(set(STATIC.rglob("*.js"))) <= MAX_SCRIPTS
    assert compressed_size(set(STATIC.rglob("*.css"))) <= MAX_STYLES


@pytest.mark.slow
def test_the_scripts_of_each_page_are_small(hub: HubPages) -> None:
    """No page but that of metrics loads more than its budget of scripts."""
    hub.add(trace_request(span(trace_id=bytes.fromhex(TRACE_ID))))
    paths = [path for path in hub.paths(trace_ids=[TRACE_ID], models=["toy"]) if not path.startswith("/api/")]
    sizes = {}
    for path in paths:
        scripts = re.findall(r'<script[^>]* src="(?:\.\./|\./)*static/([^"]+)"', hub.client.get(path).text)
        if scripts and not path.startswith(WITH_CHARTS):
            sizes[path] = compressed_size(set().union(*(with_imports(STATIC / script) for script in scripts)))

    assert {"/", f"/t/{TRACE_ID}", "/traces", "/logs", "/models"} <= set(sizes)
    assert {path: size for path, size in sizes.items() if size > MAX_SCRIPTS_OF_A_PAGE} == {}
