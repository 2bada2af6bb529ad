"""Names of files that a bundle may have beside `model.json`, for whoever looks for one without reading it."""

from typing import Final

# The rows that the example's generator is fitted on; only the built-in example has it.
GENERATOR_FILE: Final = "generator.parquet"
