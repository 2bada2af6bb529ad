"""A manifest with arbitrary changes is refused with a reason, or the loaded model works."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.errors import BundleError
from modeltrace.inference.validate import validate_row
from modeltrace.monitoring.model_event import log_model_event
from modeltrace.monitoring.reference_gauges import critical_values, reference_metrics
from tests.helpers.tables import customers_without_gaps, forest_pipeline

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.sampled_from(
        (2**63, -1, 1e300, 0.5, "nan", "", "a", "category", "number", "int64", "frame", "\x1b[2J", "é" * 300)
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with a feature of every type."""
    data = customers_without_gaps()
    estimator = forest_pipeline().fit(data, data.age > 50)
    return pack(estimator, data, name="people", out=tmp_path_factory.mktemp("fuzz") / "b")


def paths_in(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield every path in a JSON tree."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in parts:
        yield (*path, key)
        yield from paths_in(part, (*path, key))


@settings(max_examples=60)
@given(data=st.data())
def test_a_changed_manifest_is_refused_or_works(bundle: Path, data: st.DataObject) -> None:
    """After one or two changes, start, drift metrics and the example row of the schema raise no other error."""
    path = bundle / "model.json"
    before = path.read_text()
    manifest = json.loads(before)
    try:
        for _ in range(data.draw(st.integers(1, 2))):
            *parents, last = data.draw(st.sampled_from(sorted(paths_in(manifest), key=repr)))
            tree = manifest
            for key in parents:
                tree = tree[key]
            if data.draw(st.booleans()):
                tree[last] = data.draw(values)
            else:
                del tree[last]
        path.write_text(json.dumps(manifest))
        try:
            model = load_bundle(bundle)
        except BundleError as error:
            assert "\x1b" not in str(error)  # noqa: PT017  no exception is also correct
            return
    finally:
        path.write_text(before)
    reference_metrics(model)
    critical_values(model)
    log_model_event(model)
    validate_row({feature.name: feature.example for feature in model.features}, model.schema)
