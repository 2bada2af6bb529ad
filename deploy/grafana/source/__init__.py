"""The dashboards as code: `./dev dashboards` writes deploy/grafana/dashboards/, and a test holds the two together."""
