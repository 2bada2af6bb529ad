"""The states of a drift statistic, and the numbers of rows that they require."""

from typing import Final

# The number of predictions below which no drift state is computed.
MIN_ROWS: Final = 200
# The number of training rows below which no statistic is reported as "ok".
MIN_TRAINING_ROWS: Final = 250
# State of a statistic whose rows are not independent, because too many of them repeat.
ROWS_REPEAT: Final = "rows repeat"
# State of a statistic of the output if the model was fitted on all rows of the reference.
NO_HELD_OUT_REFERENCE: Final = "no held-out reference"
# The state of a feature is the first of them that any of its statistics has.
STATES: Final = ("drift", NO_HELD_OUT_REFERENCE, ROWS_REPEAT, "not enough data", "reference too small", "ok")
