"""Queries of the data sources, and functions that build PromQL expressions."""

from grafana_foundation_sdk.builders import loki, prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
LOKI = DataSourceRef(type_val="loki", uid="loki")
JAEGER = DataSourceRef(type_val="jaeger", uid="jaeger")

# The variable is the service name, as in Jaeger and Loki. The job of Prometheus may have the namespace as prefix.
JOB = 'job=~"(.+/)?$service"'
WORKER = f'{JOB}, instance=~"$instance"'
# The window of the alerts, so that a panel and its alert show the same number.
ALERT_WINDOW = "5m"


def rate(metric: str, labels: str) -> str:
    """Return the rate per second over the window that Grafana chooses for the time range."""
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def increase_5m(metric: str, labels: str) -> str:
    """Return the exact increase in the last 5 minutes: a whole number that includes the first value of a new series."""
    return f"increase({metric}{{{labels}}}[{ALERT_WINDOW}] anchored)"


def sum_by(expression: str, by: str = "") -> str:
    """Return the sum by labels."""
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def quantile(share: float, metric: str, labels: str, by: str = "") -> str:
    """Return a quantile of a histogram, as precise as its bucket bounds."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {sum_by(rate(f'{metric}_bucket', labels), grouped)})"


def mean(metric: str, labels: str, by: str = "") -> str:
    """Return the mean of a histogram."""
    return f"{sum_by(rate(f'{metric}_sum', labels), by)} / {sum_by(rate(f'{metric}_count', labels), by)}"


def share_above(bound: str, metric: str, labels: str, by: str = "") -> str:
    """Return the share of a histogram above one of its bucket bounds, from 0 to 1."""
    below = sum_by(rate(f"{metric}_bucket", f'{labels}, le="{bound}"'), by)
    return f"1 - {below} / {sum_by(rate(f'{metric}_count', labels), by)}"


def or_zero(expression: str, like: str = "") -> str:
    """Return 0 for series that do not exist before the first error: one line for each series of `like`."""
    return f"({expression}) or 0 * ({like})" if like else f"({expression}) or vector(0)"


def by_process(expression: str) -> str:
    """Add the process ID to the host name, which is more readable than the instance ID."""
    # One target_info per instance. After a restart with the same ID there are two for a while.
    info = f"topk by (job, instance) (1, target_info{{{WORKER}}})"
    return f"{sum_by(expression, 'job, instance, host_name')} * on (job, instance) group_left (process_pid) {info}"


def range_query(expression: str, legend: str, *, exemplars: bool = False) -> prometheus.Dataquery:
    """Build a PromQL query over the displayed time range."""
    target = prometheus.Dataquery().expr(expression).legend_format(legend).range().datasource(PROMETHEUS)
    return target.exemplar(True) if exemplars else target


def table_query(expression: str) -> prometheus.Dataquery:
    """Build a PromQL query for a column of a table."""
    return prometheus.Dataquery().expr(expression).instant().format(PromQueryFormat.TABLE).datasource(PROMETHEUS)


def log_query(expression: str, legend: str = "") -> loki.Dataquery:
    """Build a LogQL query."""
    return loki.Dataquery().expr(expression).legend_format(legend).query_type("range").datasource(LOKI)


class JaegerSearch(Dataquery, Builder[Dataquery]):
    """A search of the Jaeger data source of Grafana. The Foundation SDK has no type for it."""

    def __init__(self, *, tags: str = "", min_duration: str = "") -> None:
        self._query: dict[str, object] = {"queryType": "search", "service": "$service", "limit": 20}
        self._query |= {"tags": tags} if tags else {}
        self._query |= {"minDuration": min_duration} if min_duration else {}

    def ref_id(self, name: str) -> "JaegerSearch":
        """Set the name of the query in its panel."""
        self._query["refId"] = name
        return self

    def build(self) -> Dataquery:
        """Return the search itself, which is complete."""
        return self

    def to_json(self) -> dict[str, object]:
        """Return the JSON of the query in a dashboard."""
        return {**self._query, "datasource": JAEGER}


Target = prometheus.Dataquery | loki.Dataquery | JaegerSearch


def data_source(target: Target) -> DataSourceRef:
    """Return the data source of a query."""
    if isinstance(target, JaegerSearch):
        return JAEGER
    return LOKI if isinstance(target, loki.Dataquery) else PROMETHEUS
