"""`./dev fuzz`: run the property tests in rounds with new examples, until one fails or the time limit is reached."""

import secrets
import subprocess
import sys
import time
from typing import Annotated

import typer


def fuzz(
    context: typer.Context,
    minutes: Annotated[float, typer.Option(min=0, help="Time limit; no round starts after it.")] = 30.0,
) -> None:
    """Run the property tests in rounds, each with new examples.

    Further arguments go to pytest: a file, a folder, -k EXPRESSION. A failing round prints the example and a
    @reproduce_failure line. Add the example to the test as @example, and fix the bug.

    Example: ./dev fuzz --minutes 60 tests/hub
    """
    deadline = time.monotonic() + minutes * 60
    rounds = 0
    while rounds == 0 or time.monotonic() < deadline:
        rounds += 1
        seed = secrets.randbits(32)
        left = max(0.0, deadline - time.monotonic()) / 60
        print(f"round {rounds}, seed {seed}, {left:.0f} minutes left", flush=True)  # noqa: T201  progress
        command = ["-n", "logical", "--dist", "loadgroup", "--no-loadscope-reorder", "-q", "--durations-min=60"]
        command += ["-m", "hypothesis", "--hypothesis-profile=fuzz", f"--hypothesis-seed={seed}", *context.args]
        code = subprocess.run([sys.executable, "-m", "pytest", *command], check=False).returncode
        if code:
            raise typer.Exit(code)
    print(f"{rounds} rounds, no failure")  # noqa: T201  the result


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(fuzz)
    app(prog_name="./dev fuzz")
