"""Alibi Detect's tests as a page of its own: a table, no script, nothing from elsewhere."""

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


def render_tests(title: str, notes: Iterable[tuple[str, str]], answer: dict[str, Any]) -> str:
    """The page of what `modeltrace.report.programs.alibi_tests` says."""
    told = "".join(f'<tr><th>{escape(name)}</th><td class="text">{escape(words)}</td></tr>' for name, words in notes)
    ordered = sorted(answer["tests"], key=lambda one: (one["p_value"] is None, one["p_value"]))
    tests = "".join(_row(one["column"], TITLES[one["test"]], one) for one in ordered)
    together = answer["mmd"]
    if together is not None:
        tests = _row(f"all {len(together['columns'])} numbers together", "MMD", together) + tests
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1><table>{told}</table>"
        "<table><tr><th>column</th><th>test</th><th>reference</th><th>window</th><th>statistic</th><th>p</th>"
        f"<th>drift below</th></tr>{tests}</table><p>{escape(answer['library'])}</p></body></html>\n"
    )


def _row(column: str, test: str, one: dict[str, Any]) -> str:
    figures = (format_number(one["statistic"]), format_p_value(one), format_number(one["threshold"]))
    numbers = (f"{one['n_reference']:,}", f"{one['n_window']:,}", *figures)
    cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
    drift = (' class="drift"', ": drift") if one["drift"] else ("", "")
    return f'<tr{drift[0]}><td class="text">{escape(column)}{drift[1]}</td><td>{test}</td>{cells}</tr>'


def format_p_value(one: dict[str, Any]) -> str:
    """The p-value of a test; one by permutations cannot tell apart what is below one in so many."""
    if one["p_value"] == 0 and "permutations" in one:
        return f"< {1 / one['permutations']:.3g}"
    return format_number(one["p_value"])


def format_number(value: float | None) -> str:
    """A figure, to three digits."""
    return "none" if value is None else f"{value:.3g}"
