"""Run promtool, the command line tool of Prometheus, on the files of deploy/prometheus."""

import subprocess
from pathlib import Path

from tests.helpers.stack import binary

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"


def promtool(*arguments: str) -> str:
    """Run promtool in the root folder of the repository and return its output."""
    done = subprocess.run(
        [str(binary("prometheus", "promtool")), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
