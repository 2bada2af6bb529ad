"""The command line that all benches share."""

import argparse
import json
from collections.abc import Callable
from typing import Any


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser with the option `--json`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def print_as(result: dict[str, Any], show: Callable[[dict[str, Any]], None], *, as_json: bool) -> None:
    """Print the result as JSON, or as tables with `show`."""
    print(json.dumps(result)) if as_json else show(result)


def format_load_average(result: dict[str, Any]) -> str:
    """Format the load average of the machine that a result contains."""
    return "load average " + " ".join(f"{number:.1f}" for number in result["load_average"])
