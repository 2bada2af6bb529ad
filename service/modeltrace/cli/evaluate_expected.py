"""`modeltrace evaluate --expected`."""

import json
from dataclasses import asdict

from modeltrace.cli.evaluate_file import NoDataError, no_predictions_error
from modeltrace.evaluation.expected_rows import estimate_performance
from modeltrace.evaluation.render_expected import to_text
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.terminal import SafeConsole, echo


def print_expected_performance(store: Store, selection: Selection, *, as_json: bool) -> None:
    """Print the expected performance of each classifier in a selection.

    Raises:
        NoDataError: no prediction is selected, or none has a confidence.
        StoreError: the store cannot be read.
    """
    results = estimate_performance(store, selection)
    if not results and not store.counts(selection).predictions:
        raise no_predictions_error(store, selection)
    if not results:
        raise NoDataError(
            f"no selected prediction in {store.location.description} has a confidence. --expected is only for "
            "classifiers that predict probabilities"
        )
    if as_json:
        echo(json.dumps([asdict(result) for result in results], indent=2, ensure_ascii=False))
        return
    console = SafeConsole()
    for result in results:
        console.print(to_text(result))
