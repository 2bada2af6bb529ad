"""OpenTelemetry's variables: those of the specification, with the good, odd and bad values of docs/settings.md."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from modeltrace.errors import SettingsError
from modeltrace.otel_env.environment import Variables, read_variables, write_environment
from modeltrace.otel_env.table import OTLP_PREFIX, VARIABLES

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
NONE = "\N{EN DASH}"
# The names in the specification: "Environment Variable Specification" and "OpenTelemetry Protocol Exporter".
SPECIFIED = [
    "OTEL_SDK_DISABLED",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SERVICE_NAME",
    "OTEL_ENTITIES",
    "OTEL_LOG_LEVEL",
    "OTEL_PROPAGATORS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BLRP_SCHEDULE_DELAY",
    "OTEL_BLRP_EXPORT_TIMEOUT",
    "OTEL_BLRP_MAX_QUEUE_SIZE",
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
    "OTEL_EXPORTER_ZIPKIN_TIMEOUT",
    "OTEL_EXPORTER_ZIPKIN_PROTOCOL",
    "OTEL_EXPORTER_PROMETHEUS_HOST",
    "OTEL_EXPORTER_PROMETHEUS_PORT",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_LOGS_EXPORTER",
    "OTEL_METRICS_EXEMPLAR_FILTER",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_METRIC_EXPORT_TIMEOUT",
    "OTEL_CONFIG_FILE",
    "OTEL_EXPERIMENTAL_CONFIG_FILE",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    "OTEL_EXPORTER_OTLP_SPAN_INSECURE",
    "OTEL_EXPORTER_OTLP_METRIC_INSECURE",
]
SPECIFIED_BY_SIGNAL = [
    "ENDPOINT",
    "INSECURE",
    "CERTIFICATE",
    "CLIENT_KEY",
    "CLIENT_CERTIFICATE",
    "HEADERS",
    "COMPRESSION",
    "TIMEOUT",
    "PROTOCOL",
]
# Other variables that an example needs.
BESIDE = {"OTEL_TRACES_SAMPLER_ARG": {"OTEL_TRACES_SAMPLER": "traceidratio"}}


class Row(NamedTuple):
    """A row of the page: one variable."""

    name: str
    per_signal: bool
    default: str
    meaning: str
    good: str
    odd: str
    bad: str


def rows() -> list[Row]:
    """Return the rows of the page's tables of OpenTelemetry's variables."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `OTEL_")]
    cells = [[cell[1:-1] for cell in line[1:-1].split("|")] for line in lines]
    return [Row(re.findall("`(.+)`", name)[0], name.endswith("¹"), *rest) for name, *rest in cells]


ROWS = rows()


class Example(NamedTuple):
    """A value of a variable, and its effect according to the page."""

    name: str
    kind: str
    value: str
    outcome: str  # "refused", "ignored", or the value as it is read


def examples() -> list[Example]:
    """Return every example of the page, for every variant of its variable."""
    examples = []
    names = {variable.name: tuple(variable.names()) for variable in VARIABLES}
    for row in ROWS:
        for name in names.get(row.name, ()):
            for kind, cell in (("good", row.good), ("odd", row.odd), ("bad", row.bad)):
                if cell == NONE:
                    continue
                value, *read = re.findall("`(.+?)`", cell)
                outcome = cell.rpartition(" ")[2] if kind == "bad" else (read or [value])[0]
                examples.append(Example(name, kind, value, outcome))
    return examples


EXAMPLES = examples()


def test_the_page_has_every_variable_of_the_table() -> None:
    """Names equal those of the code, in the same order."""
    assert [row[:2] for row in ROWS] == [(variable.name, variable.per_signal) for variable in VARIABLES]


def test_the_table_has_every_variable_of_the_specification() -> None:
    """It also has the variants for each signal."""
    by_signal = {
        f"OTEL_EXPORTER_OTLP_{infix}{option}"
        for infix in ("", "TRACES_", "METRICS_", "LOGS_")
        for option in SPECIFIED_BY_SIGNAL
    }

    assert {*SPECIFIED, *by_signal} <= {name for variable in VARIABLES for name in variable.names()}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.name}={example.value}")
def test_every_example_of_the_page(example: Example) -> None:
    """Good and odd values are read without a message. A bad one is ignored or refused, with one line that names it."""
    environ = {**BESIDE.get(example.name, {}), example.name: example.value}
    if example.outcome == "refused":
        with pytest.raises(SettingsError, match=rf"^{example.name} ") as refused:
            read_variables(environ)
        assert "\n" not in str(refused.value)
        return
    read = read_variables(environ)
    if example.outcome == "ignored":
        assert [line.partition(" ")[0] for line in read.warnings] == [example.name]
        assert "\n" not in read.warnings[0]
        assert example.name not in read.values
        return
    assert read.warnings == ()
    assert read.values[example.name] == example.outcome


@pytest.mark.parametrize("name", [name for variable in VARIABLES for name in variable.names()])
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_value_counts_as_unset(name: str, empty: str) -> None:
    """The SDK does not see the variable either."""
    environ = {name: empty}
    read = read_variables(environ)
    write_environment(read, environ)

    assert read == Variables({}, ())
    assert environ == {}


def test_the_sdk_reads_the_validated_values() -> None:
    """Values are normalized, ignored ones are removed, and other variables stay."""
    environ = {
        "OTEL_TRACES_EXPORTER": " OTLP ",
        "OTEL_BSP_SCHEDULE_DELAY": "5s",
        "OTEL_PYTHON_CONTEXT": "",
        "PATH": "",
    }
    write_environment(read_variables(environ), environ)

    assert environ == {"OTEL_TRACES_EXPORTER": "otlp", "PATH": ""}


BUILD = """
import os
from modeltrace.otel_env.environment import read_variables, write_environment
write_environment(read_variables(os.environ), os.environ)
from modeltrace.settings import read_settings
from modeltrace.telemetry.resource import build_resource
from modeltrace.telemetry.export.sidecar_provider import build_sidecar_provider
from modeltrace.telemetry.sdk.provider import build_sdk_provider
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
otel = read_settings().otel
build_sdk_provider(otel, build_resource(otel.service_name, "1", workers=2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["good", "odd", "bad"])
def test_the_sdk_is_built_with_all_examples_at_once(kind: str) -> None:
    """The SDK reads variables when it is imported and built. No example makes it fail or warn."""
    left_out = {"OTEL_SDK_DISABLED", *(name for name in os.environ if name.startswith("OTEL_"))}
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    chosen = [
        example
        for example in EXAMPLES
        if example.kind == kind and example.outcome != "refused" and example.name not in left_out
    ]
    environ |= {example.name: example.value for example in chosen} | {f"{OTLP_PREFIX}TRACES_PROTOCOL": "grpc"}
    built = subprocess.run(
        [sys.executable, "-c", BUILD], env=environ, capture_output=True, text=True, check=False, cwd=PAGE.parents[1]
    )

    assert (built.returncode, built.stderr) == (0, "")
