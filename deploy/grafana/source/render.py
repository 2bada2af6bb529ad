"""Render the dashboards as the JSON files that Grafana reads."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.source.model_health import model_health
from deploy.grafana.source.service_health import service_health
from deploy.grafana.source.telemetry_pipeline import telemetry_pipeline

FOLDER = Path(__file__).parent.parent / "dashboards"


def render_all() -> dict[str, str]:
    """Return the JSON of every dashboard by file name."""
    dashboards = {
        "model-health.json": model_health(),
        "service-health.json": service_health(),
        "telemetry-pipeline.json": telemetry_pipeline(),
    }
    return {
        name: json.dumps(dashboard.build(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"
        for name, dashboard in dashboards.items()
    }
