"""Reads and validates OpenTelemetry's environment variables.

An invalid value counts as unset and causes a warning, as the specification demands. Variables that define where
telemetry is sent, or how traces are propagated, are different: an invalid value is an error, because telemetry would be
lost without notice.
"""

import os
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import NamedTuple

from modeltrace.errors import SettingsError
from modeltrace.otel_env.parsers import PartialValueError, UnsupportedError, endpoint
from modeltrace.otel_env.table import OTLP_PREFIX, SAMPLER_ARGUMENT, SIGNALS, VARIABLES, Signal


@dataclass(frozen=True, slots=True)
class Variables:
    """Valid values by the name of their variable, and a warning for each ignored value."""

    values: Mapping[str, str] = field(repr=False)  # headers are secrets
    warnings: tuple[str, ...]

    def option(self, signal: Signal, option: str) -> str | None:
        """Return an option of the OTLP exporter: from the variable of the signal, or else of all signals."""
        return read_option(signal, option, self.values).value or None


class Option(NamedTuple):
    """An option of the OTLP exporter: the variable that sets it, and its value, which is empty if it is not set."""

    variable: str
    value: str


def read_option(signal: Signal, name: str, values: Mapping[str, str] = os.environ) -> Option:
    """Read an option from the variable of the signal, or else of all signals. An empty variable counts as unset."""
    own, shared = f"{OTLP_PREFIX}{signal.upper()}_{name}", OTLP_PREFIX + name
    return Option(own, values[own]) if values.get(own) else Option(shared, values.get(shared, ""))


def read_variables(environ: Mapping[str, str]) -> Variables:
    """Read all variables of the table.

    With `OTEL_SDK_DISABLED=true` nothing is exported, so only propagators can be refused.

    Raises:
        SettingsError: a value is refused. The message names the variable and the remedy.
    """
    values, warnings, refused = dict[str, str](), list[str](), list[str]()
    for variable in VARIABLES:
        for name in variable.names():
            if not (value := environ.get(name, "").strip()):
                continue
            try:
                values[name] = variable.parse(value)
            except PartialValueError as error:
                values[name] = error.rest
                warnings.append(f"{name} {error}; the entry is ignored")
            except ValueError as error:
                if variable.on_invalid == "refused":
                    refused.append(f"{name} {error}")
                else:
                    ignored = "" if isinstance(error, UnsupportedError) else "; it is ignored"
                    warnings.append(f"{name} {error}{ignored}")
    values = {name: value for name, value in values.items() if value}
    refused += _bad_endpoints(values)
    if values.get("OTEL_SDK_DISABLED") == "true":
        refused = [line for line in refused if line.startswith("OTEL_PROPAGATORS ")]
    if refused:
        raise SettingsError("; ".join(refused))
    return Variables(values, (*warnings, *_contradictions(values)))


def write_environment(variables: Variables, environ: MutableMapping[str, str]) -> None:
    """Write the valid values to the environment, and remove empty and invalid variables."""
    for name in [name for name, value in environ.items() if name.startswith("OTEL_") and not value.strip()]:
        del environ[name]
    for variable in VARIABLES:
        for name in variable.names():
            if name in variables.values:
                environ[name] = variables.values[name]
            else:
                environ.pop(name, None)


def _bad_endpoints(values: dict[str, str]) -> Iterator[str]:
    variables = Variables(values, ())
    for name in (OTLP_PREFIX + "ENDPOINT", *(f"{OTLP_PREFIX}{signal.upper()}_ENDPOINT" for signal in SIGNALS)):
        if name not in values:
            continue
        signals = [s for s in SIGNALS if name == f"{OTLP_PREFIX}{s.upper()}_ENDPOINT"] or SIGNALS
        for signal in signals:
            grpc = (variables.option(signal, "PROTOCOL") or "") == "grpc"
            insecure_is_set = variables.option(signal, "INSECURE") is not None
            shared = name == OTLP_PREFIX + "ENDPOINT" and not values.get(f"{OTLP_PREFIX}{signal.upper()}_ENDPOINT")
            try:
                endpoint(grpc=grpc, insecure_is_set=insecure_is_set, shared=shared)(values[name])
            except ValueError as error:
                yield f"{name} {error}"
                break


def _contradictions(values: dict[str, str]) -> Iterator[str]:
    """Yield a warning for each pair of inconsistent values, and remove or adapt one of the two."""
    if SAMPLER_ARGUMENT in values and not values.get("OTEL_TRACES_SAMPLER", "").endswith("traceidratio"):
        del values[SAMPLER_ARGUMENT]
        yield f"{SAMPLER_ARGUMENT} is for the samplers traceidratio and parentbased_traceidratio; it is ignored"
    for processor in ("OTEL_BSP", "OTEL_BLRP"):
        queue, batch = (values.get(f"{processor}_MAX_{name}_SIZE") for name in ("QUEUE", "EXPORT_BATCH"))
        if int(batch or 512) > int(queue or 2048):
            values[f"{processor}_MAX_EXPORT_BATCH_SIZE"] = queue or "2048"
            if batch:
                yield f"{processor}_MAX_EXPORT_BATCH_SIZE is more than the queue holds; it is {queue or 2048}"
