"""The audit trail: one record a prediction, with everything needed to follow or repeat it."""

import logging
from collections.abc import Mapping

from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME

from service.inference.model import Answer, Model
from service.telemetry.logs import AUDIT_LOGGER
from service.telemetry.names import (
    EVENT_PREDICTION,
    ML_MODEL_HASH,
    ML_MODEL_NAME,
    ML_MODEL_VERSION,
    ML_PREDICTION_CONFIDENCE,
    ML_PREDICTION_ID,
    ML_PREDICTION_INPUTS,
    ML_PREDICTION_LABEL,
    ML_PREDICTION_ROW,
    ML_PREDICTION_VALUE,
)


class AuditTrail:
    """Writes one log record a prediction, in the context of the request that asked for it."""

    def __init__(self, model: Model) -> None:
        self._logger = logging.getLogger(AUDIT_LOGGER)
        self._constant = {
            OTEL_EVENT_NAME: EVENT_PREDICTION,
            ML_MODEL_NAME: model.name,
            ML_MODEL_VERSION: model.version,
            ML_MODEL_HASH: model.hash,
        }

    def record(self, prediction_id: str, row: int, inputs: Mapping[str, object], answer: Answer) -> None:
        """Record one answered row; `row` is its place in the request, from 0."""
        extra = {
            **self._constant,
            ML_PREDICTION_ID: prediction_id,
            ML_PREDICTION_ROW: row,
            ML_PREDICTION_INPUTS: dict(inputs),
        }
        if answer.value is not None:
            extra[ML_PREDICTION_VALUE] = answer.value
        else:
            extra[ML_PREDICTION_LABEL] = str(answer.label)
        if answer.confidence is not None:
            extra[ML_PREDICTION_CONFIDENCE] = answer.confidence
        self._logger.info("predicted %s", answer.label if answer.value is None else answer.value, extra=extra)
