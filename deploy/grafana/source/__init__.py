"""The dashboards as code. `./dev dashboards` writes deploy/grafana/dashboards/; a test compares both."""
