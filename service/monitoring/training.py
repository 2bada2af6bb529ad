"""What a bundle says of the data that its model was fitted on, as telemetry takes it."""

from service.inference.schema import Schema
from service.monitoring.bins import FeatureBins
from service.telemetry.watched import Training


def training_data(schema: Schema) -> Training:
    """The bins of all features, and how the training data fell into them."""
    bins = FeatureBins(schema)
    references = {feature.name: feature.reference for feature in schema.features}
    return Training(
        bins,
        [references[name].shares[one] for name, one in bins.series],
        [references[name].mean or 0.0 for name in bins.numeric],
    )
