"""Build the feature schema of a bundle from its training data."""

from collections.abc import Mapping

import pandas as pd

from modeltrace.bundles.column_schema import describe_column
from modeltrace.bundles.time_columns import ValidRange
from modeltrace.errors import PackError
from modeltrace.inference.allowed_violations import AllowedViolations, allow_violations, check_allowed_violations
from modeltrace.inference.schema import Schema
from modeltrace.printable import first_line


def build_schema(
    training: pd.DataFrame,
    *,
    valid_ranges: Mapping[str, ValidRange],
    max_lengths: Mapping[str, int],
    strict_categories: bool,
    allowed_violations: AllowedViolations,
    ignore_unknown: bool,
) -> Schema:
    """Derive the schema of each feature from its training column. See `pack` for the arguments.

    Raises:
        PackError: an argument names a column that does not exist or does not fit, or a column cannot be a feature.
    """
    check_allowed_violations(allowed_violations, training)
    for option, names in (("--range", valid_ranges), ("--max-length", max_lengths)):
        if unknown := set(names) - set(training.columns):
            raise PackError(f"{option} {min(unknown)}: the training data has no feature of that name")
    features = []
    for name in training.columns:
        allowed = allowed_violations.get(name)
        # Unknown categories can be counted as violations only if the schema enforces categories. For numbers, the
        # argument has no effect.
        strict = strict_categories or (allowed is not None and (not allowed or "category" in allowed))
        try:
            feature = describe_column(
                training[name],
                valid_range=valid_ranges.get(name),
                strict_categories=strict,
                max_length=max_lengths.get(name),
            )
        except PackError:
            raise
        except UnicodeEncodeError:
            raise PackError(
                f"column {name} contains text that is not valid Unicode. Correct it and fit again"
            ) from None
        except Exception as error:
            raise PackError(
                f"cannot describe column {name} ({training[name].dtype}): {type(error).__name__}: "
                f"{first_line(error)}. Convert it to numbers, booleans or text before fitting"
            ) from error
        features.append(feature if allowed is None else allow_violations(feature, allowed))
    return Schema(features=tuple(features), on_unknown="count" if ignore_unknown else "reject")
