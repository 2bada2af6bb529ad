"""Render the results of Alibi Detect's tests as a self-contained HTML page without scripts."""

from collections.abc import Iterable
from html import escape
from typing import Any, Final

STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0 2rem; }
th { font-weight: normal; opacity: .7; text-align: left; vertical-align: top; }
th, td { padding: .15rem 1.5rem .15rem 0; white-space: nowrap; }
td.text { overflow-wrap: anywhere; white-space: normal; }
td.number { text-align: right; }
tr.drift td:first-child { font-weight: 600; }
"""
TITLES: Final = {"kolmogorov_smirnov": "Kolmogorov-Smirnov", "chi_square": "chi-square"}


def render_tests(title: str, notes: Iterable[tuple[str, str]], results: dict[str, Any]) -> str:
    """Return the page for the output of `modeltrace.report.programs.alibi_tests`."""
    note_rows = "".join(f'<tr><th>{escape(term)}</th><td class="text">{escape(text)}</td></tr>' for term, text in notes)
    tests = sorted(results["tests"], key=lambda test: (test["p_value"] is None, test["p_value"]))
    test_rows = "".join(_row(test["column"], TITLES[test["test"]], test) for test in tests)
    mmd = results["mmd"]
    if mmd is not None:
        test_rows = _row(f"all {len(mmd['columns'])} numbers together", "MMD", mmd) + test_rows
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1><table>{note_rows}</table>"
        "<table><tr><th>column</th><th>test</th><th>reference</th><th>window</th><th>statistic</th><th>p</th>"
        f"<th>drift below</th></tr>{test_rows}</table><p>{escape(results['library'])}</p></body></html>\n"
    )


def _row(column: str, title: str, test: dict[str, Any]) -> str:
    numbers = (format_number(test["statistic"]), format_p_value(test), format_number(test["threshold"]))
    cells = "".join(
        f'<td class="number">{text}</td>' for text in (f"{test['n_reference']:,}", f"{test['n_window']:,}", *numbers)
    )
    style, suffix = (' class="drift"', ": drift") if test["drift"] else ("", "")
    return f'<tr{style}><td class="text">{escape(column)}{suffix}</td><td>{title}</td>{cells}</tr>'


def format_p_value(test: dict[str, Any]) -> str:
    """Format the p-value of a test. The resolution of a permutation test is 1 / permutations."""
    if test["p_value"] == 0 and "permutations" in test:
        return f"< {1 / test['permutations']:.3g}"
    return format_number(test["p_value"])


def format_number(value: float | None) -> str:
    """Format a number with three significant digits."""
    return "none" if value is None else f"{value:.3g}"
