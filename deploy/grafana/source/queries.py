"""How the data sources are asked: targets, and the pieces that PromQL expressions are made of."""

from grafana_foundation_sdk.builders import loki, prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
LOKI = DataSourceRef(type_val="loki", uid="loki")
JAEGER = DataSourceRef(type_val="jaeger", uid="jaeger")

# The variable is the name of a service, as in Jaeger and Loki; Prometheus' job may have its namespace before it.
JOB = 'job=~"(.+/)?$service"'
WORKER = f'{JOB}, instance=~"$instance"'
# The window of whatever an alert counts, too: the same number here and there.
ALERT_WINDOW = "5m"


def rate(metric: str, labels: str) -> str:
    """Per second, over the window that fits the zoom."""
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def increase_5m(metric: str, labels: str) -> str:
    """How often in the last 5 minutes, exactly: whole numbers, from the first of a series that is new."""
    return f"increase({metric}{{{labels}}}[{ALERT_WINDOW}] anchored)"


def sum_by(expression: str, by: str = "") -> str:
    """The sum, by labels."""
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def quantile(share: float, metric: str, labels: str, by: str = "") -> str:
    """A quantile of a histogram, no sharper than its bounds."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {sum_by(rate(f'{metric}_bucket', labels), grouped)})"


def mean(metric: str, labels: str, by: str = "") -> str:
    """The mean of a histogram."""
    return f"{sum_by(rate(f'{metric}_sum', labels), by)} / {sum_by(rate(f'{metric}_count', labels), by)}"


def share_above(bound: str, metric: str, labels: str, by: str = "") -> str:
    """How much of a histogram lies above one of its bounds, from 0 to 1."""
    below = sum_by(rate(f"{metric}_bucket", f'{labels}, le="{bound}"'), by)
    return f"1 - {below} / {sum_by(rate(f'{metric}_count', labels), by)}"


def or_zero(expression: str, like: str = "") -> str:
    """A series that exists only once something went wrong reads 0 until then: one line for each of `like`."""
    return f"({expression}) or 0 * ({like})" if like else f"({expression}) or vector(0)"


def by_process(expression: str) -> str:
    """With the process ID beside the host, which says more than the ID of an instance."""
    # One target_info an instance: after a restart under the same ID there are two for a while.
    info = f"topk by (job, instance) (1, target_info{{{WORKER}}})"
    return f"{sum_by(expression, 'job, instance, host_name')} * on (job, instance) group_left (process_pid) {info}"


def range_query(expression: str, legend: str, *, exemplars: bool = False) -> prometheus.Dataquery:
    """A PromQL query over the time shown."""
    target = prometheus.Dataquery().expr(expression).legend_format(legend).range().datasource(PROMETHEUS)
    return target.exemplar(True) if exemplars else target


def table_query(expression: str) -> prometheus.Dataquery:
    """A PromQL query for a column of a table."""
    return prometheus.Dataquery().expr(expression).instant().format(PromQueryFormat.TABLE).datasource(PROMETHEUS)


def log_query(expression: str, legend: str = "") -> loki.Dataquery:
    """A LogQL query."""
    return loki.Dataquery().expr(expression).legend_format(legend).query_type("range").datasource(LOKI)


class JaegerSearch(Dataquery, Builder[Dataquery]):
    """A search in Jaeger, as Grafana's data source of that name takes it; the SDK has no type for it."""

    def __init__(self, *, tags: str = "", min_duration: str = "") -> None:
        self._query: dict[str, object] = {"queryType": "search", "service": "$service", "limit": 20}
        self._query |= {"tags": tags} if tags else {}
        self._query |= {"minDuration": min_duration} if min_duration else {}

    def ref_id(self, name: str) -> "JaegerSearch":
        """Its name in the panel."""
        self._query["refId"] = name
        return self

    def build(self) -> Dataquery:
        """Itself: it is complete from the start."""
        return self

    def to_json(self) -> dict[str, object]:
        """As it stands in a dashboard."""
        return {**self._query, "datasource": JAEGER}


Target = prometheus.Dataquery | loki.Dataquery | JaegerSearch


def data_source(target: Target) -> DataSourceRef:
    """What is asked."""
    if isinstance(target, JaegerSearch):
        return JAEGER
    return LOKI if isinstance(target, loki.Dataquery) else PROMETHEUS
