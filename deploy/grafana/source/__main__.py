"""Writes the dashboards anew."""

from deploy.grafana.source.render import FOLDER, render_all


def main() -> None:
    """Write each, and say where."""
    for name, text in render_all().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)  # noqa: T201  what it has written is all that it says


if __name__ == "__main__":
    main()
