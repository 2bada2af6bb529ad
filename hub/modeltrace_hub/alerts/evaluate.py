"""Evaluate all rules on the stored telemetry."""

from collections.abc import Collection

from modeltrace_hub.alerts.drift_rules import drift_conditions
from modeltrace_hub.alerts.model_rules import model_conditions
from modeltrace_hub.alerts.objective_rules import objective_conditions
from modeltrace_hub.alerts.rules import Condition
from modeltrace_hub.alerts.service_rules import service_conditions
from modeltrace_hub.queries.reader import Queries


def evaluate_rules(queries: Queries, now_ns: int, disabled: Collection[str] = ()) -> list[Condition]:
    """Return the conditions that are true now.

    Args:
        queries: the queries of the store.
        now_ns: the current time.
        disabled: names of rules that are left out.

    Raises:
        StoreError: the store cannot be read, or a query took too long.
    """
    conditions: list[Condition] = []
    for evaluate in (service_conditions, objective_conditions, model_conditions, drift_conditions):
        with queries.open_reader() as reader:
            conditions += (condition for condition in evaluate(reader, now_ns) if condition.rule not in disabled)
    return conditions
