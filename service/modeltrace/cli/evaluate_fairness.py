"""`modeltrace evaluate --fairness`."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict

from modeltrace.cli.bundle_option import find_manifest
from modeltrace.evaluation.fairness import evaluate_fairness
from modeltrace.evaluation.render_fairness import to_text
from modeltrace.monitoring.segment_bins import segment_bins
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.terminal import SafeConsole, echo


def print_fairness(
    open_store: Callable[[], AbstractContextManager[Store]],
    selection: Selection,
    bundle: str | None,
    attribute: str,
    positive: str,
    reference_group: str | None,
    *,
    as_json: bool,
) -> None:
    """Print the comparison of the groups that a tag or feature divides."""
    with open_store() as store:
        manifest = find_manifest(store, bundle)
        bins = segment_bins(manifest.features) if manifest else {}
        results = evaluate_fairness(store, selection, attribute, positive, reference_group, bins)
    if as_json:
        echo(json.dumps([asdict(result) for result in results], indent=2, ensure_ascii=False))
        return
    console = SafeConsole()
    for metrics in results:
        console.print(to_text(metrics))
