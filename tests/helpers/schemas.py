"""A schema with a feature of every type, and a row that it accepts."""

from modeltrace.inference.schema import Feature, Reference, Schema

REFERENCE = Reference(n=1, shares={"00": 1.0})
SCHEMA = Schema(
    features=(
        Feature(name="size", type="number", valid_range=(0, 10), reference=REFERENCE),
        Feature(name="weight", type="number", nullable=True, reference=REFERENCE),
        Feature(name="rooms", type="integer", dtype="int64", reference=REFERENCE),
        Feature(name="garden", type="boolean", dtype="bool", reference=REFERENCE),
        Feature(name="city", type="category", dtype="object", categories=("Bonn", "Trier"), reference=REFERENCE),
        Feature(
            name="heating",
            type="category",
            dtype="object",
            categories=("gas", "wood"),
            enforce_categories=True,
            nullable=True,
            reference=REFERENCE,
        ),
    )
)
VALID_ROW: dict[str, object] = {
    "size": 3.5,
    "weight": 1,
    "rooms": 4,
    "garden": True,
    "city": "Atlantis",
    "heating": "gas",
}
