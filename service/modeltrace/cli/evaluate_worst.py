"""`modeltrace evaluate --worst`."""

import json

from modeltrace.cli.bundle_option import find_manifest
from modeltrace.cli.evaluate_file import NoDataError, no_predictions_error
from modeltrace.evaluation.queries import labelled_models
from modeltrace.evaluation.render_worst import to_json, to_text
from modeltrace.evaluation.worst_segments import find_worst_segments
from modeltrace.monitoring.segment_bins import segment_bins
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.terminal import SafeConsole, echo


def print_worst_segments(
    store: Store, selection: Selection, bundle: str | None, limit: int, *, pairs: bool, as_json: bool
) -> None:
    """Print the segments of each model in a selection that have the largest errors.

    Raises:
        NoDataError: no prediction is selected, or none has a true label.
        PairsError: there are too many values to compare all pairs.
        StoreError: the store cannot be read.
    """
    manifest = find_manifest(store, bundle)
    bins = segment_bins(manifest.features) if manifest else {}
    results = []
    for name, version, model_hash, classifier in store.fetch_all(labelled_models(selection)):
        of_model = selection._replace(model_name=name, model_version=version, model_hash=model_hash)
        result = find_worst_segments(store, of_model, classifier=bool(classifier), limit=limit, bins=bins, pairs=pairs)
        results += [] if result is None else [result]
    if not results and not store.counts(selection).predictions:
        raise no_predictions_error(store, selection)
    if not results:
        raise NoDataError(
            f"no selected prediction of a classifier or a regressor in {store.location.description} has a true label "
            "and its inputs"
        )
    if as_json:
        echo(json.dumps([to_json(result) for result in results], indent=2, ensure_ascii=False))
        return
    console = SafeConsole()
    for result in results:
        console.print(to_text(result))
