"""A feature schema with a feature of every type."""

from modeltrace.inference.schema import Feature, Reference, Schema

NUMBERS = Reference(n=1, edges=(0.0,), shares={"00": 1.0, "01": 0.0, "missing": 0.0, "other": 0.0})
TEXTS = Reference(n=1, shares={"missing": 1.0, "other": 0.0, "unseen": 0.0})
MIXED_SCHEMA = Schema(
    features=(
        Feature(name="age", type="number", nullable=True, reference=NUMBERS),
        Feature(name="rooms", type="integer", dtype="int64", reference=NUMBERS),
        Feature(name="vip", type="boolean", dtype="bool", reference=TEXTS),
        Feature(name="city", type="category", dtype="object", categories=("Bonn",), nullable=True, reference=TEXTS),
    )
)
