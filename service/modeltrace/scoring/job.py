"""Load the model that the settings name, and score a file with it."""

from collections.abc import Callable
from dataclasses import replace

from modeltrace.scoring.config import Progress, ScoreConfig
from modeltrace.scoring.results import Summary
from modeltrace.scoring.run import score_file
from modeltrace.scoring.scorer import model_scorer
from modeltrace.serving.bundle_loader import load_model
from modeltrace.settings import Settings


def run_job(settings: Settings, config: ScoreConfig, on_progress: Callable[[Progress], object]) -> Summary:
    """Score a file with the configured bundle, with or without telemetry.

    Raises:
        ModeltraceError: the bundle cannot be loaded, the prediction store cannot be opened, or see `score_file`.
    """
    model, _ = load_model(settings)
    if not config.telemetry:
        scorer = model_scorer(model, details=config.details)
        return score_file(config, model, scorer, on_progress=on_progress)
    # Imported here: only this needs the OpenTelemetry SDK and SQLAlchemy, whose imports take time.
    from modeltrace.scoring.telemetry import open_traced_scorer, traced_chunk_rows  # noqa: PLC0415  see above

    config = replace(config, chunk_rows=traced_chunk_rows(settings, config.chunk_rows))
    with open_traced_scorer(settings, model, details=config.details) as scorer:
        return score_file(config, model, scorer, on_progress=on_progress)
