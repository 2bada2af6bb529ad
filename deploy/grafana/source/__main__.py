"""Write the JSON files of the dashboards."""

from deploy.grafana.source.render import FOLDER, render_all


def main() -> None:
    """Write each dashboard and print its path."""
    for name, text in render_all().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)  # noqa: T201  the output of the command


if __name__ == "__main__":
    main()
