"""Names of optional files in a bundle, in a module without imports."""

from typing import Final

# The rows that the generator is fitted on; only the built-in example has this file.
GENERATOR_FILE: Final = "generator.json"
