"""A hub with a file and fixed ports, which can be restarted, and queries of its database."""

from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import httpx

from tests.helpers.hubs import HubPorts, HubProcess, running_hub


@dataclass(frozen=True)
class RestartableHub:
    """A hub with a file and fixed ports, which can be started several times."""

    data: Path
    ports: HubPorts

    @property
    def otlp_url(self) -> str:
        """The URL of OTLP over HTTP."""
        return self.ports.otlp_url

    def running(self) -> AbstractContextManager[HubProcess]:
        """Run the hub until the end of the context."""
        return running_hub(self.data, self.ports)

    def has_prediction(self, prediction_id: str) -> bool:
        """Return whether the running hub has a prediction log record."""
        response = httpx.get(f"{self.ports.page_url}/api/logs", params={"attr.ml.prediction.id": prediction_id})
        return bool(response.raise_for_status().json()["logs"])

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Query the database. The hub must not be running."""
        with duckdb.connect(str(self.data / "hub.duckdb"), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def prediction_records(self) -> Counter[str]:
        """Count the prediction log records of each prediction ID."""
        rows = self.query("""SELECT attributes->>'$."ml.prediction.id"' FROM logs WHERE event_name = 'ml.prediction'""")
        return Counter(row[0] for row in rows)

    def span_counts(self) -> Counter[tuple[str, str]]:
        """Count the rows of each span of a prediction, by trace and span ID."""
        rows = self.query(
            """SELECT trace_id, span_id FROM spans WHERE trace_id IN
               (SELECT trace_id FROM logs WHERE event_name = 'ml.prediction')"""
        )
        return Counter(rows)

    def prediction_count(self) -> int:
        """Return the number of predictions counted by metrics."""
        ((total,),) = self.query(
            """SELECT sum(latest) FROM (SELECT max(coalesce(value_int, value)) AS latest FROM metric_points
               WHERE name = 'ml.predictions' GROUP BY service_instance_id, series_id)"""
        )
        return int(total)

    def latest_sum(self, metric: str, condition: str = "true") -> int:
        """Sum the last values of all series of a metric."""
        ((total,),) = self.query(
            f"""SELECT coalesce(sum(latest), 0) FROM (SELECT max(coalesce(value_int, value)) AS latest
                FROM metric_points WHERE name = '{metric}' AND {condition} GROUP BY service_instance_id, series_id)"""  # noqa: S608  constants of tests
        )
        return int(total)
