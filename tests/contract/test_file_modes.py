"""No other user can read the files of service and hub, which contain the inputs of predictions."""

import stat
from pathlib import Path

import httpx
import pytest

from modeltrace_hub.store import FILE_NAME
from tests.helpers.hubs import running_hub
from tests.helpers.processes import wait_until
from tests.helpers.services import running_service

pytestmark = pytest.mark.slow

Rows = list[dict[str, float]]


def test_files_and_new_folders_are_private_to_the_user(bundle: Path, rows: Rows, tmp_path: Path) -> None:
    """Each file has mode 0600, even in a readable folder and for a log file that was readable before."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    log = folder / "service.log"
    log.touch()
    log.chmod(0o644)
    env = {
        "MODELTRACE_LOG_FILE": str(log),
        "MODELTRACE_STORE": str(folder / "predictions.db"),
        "MODELTRACE_SPOOL_DIR": str(folder / "new" / "spool"),
    }
    with running_hub(folder) as hub, running_service(bundle, hub.otlp_url, **env) as (_, url):
        httpx.post(f"{url}/predict", json={"features": rows[0]}, timeout=30).raise_for_status()
        wait_until(
            lambda: "ml.prediction" in httpx.get(f"{hub.page_url}/api/logs").text,
            description="the prediction in the hub",
        )
        wait_until(lambda: log.stat().st_size > 0, description="a line in the log file")
        modes = {path.relative_to(folder): path.stat() for path in folder.rglob("*")}

    assert {Path(FILE_NAME), Path(FILE_NAME + ".wal"), Path("service.log"), Path("predictions.db")} <= set(modes)
    assert {
        str(path): oct(stat.S_IMODE(status.st_mode))
        for path, status in modes.items()
        if stat.S_IMODE(status.st_mode) != (0o700 if stat.S_ISDIR(status.st_mode) else 0o600)
    } == {}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
