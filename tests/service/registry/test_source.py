"""Sources of bundles are parsed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.bundles.registry.source import FolderSource, MlflowSource, parse_source
from modeltrace.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("models/churn", FolderSource(Path("models/churn"))),
        ("models@1.2.0", FolderSource(Path("models"), "1.2.0")),
        ("/srv/a@b/models@2", FolderSource(Path("/srv/a@b/models"), "2")),
        ("models@", FolderSource(Path("models@"))),
        ("models/@3", FolderSource(Path("models"), "3")),
        ("models:/churn@champion", MlflowSource("churn", alias="champion")),
        ("models:/churn model/12", MlflowSource("churn model", number="12")),
    ],
)
def test_a_source_is_a_folder_or_a_registered_model(text: str, source: FolderSource | MlflowSource) -> None:
    """It may end with an alias, a number or a version."""
    assert parse_source(text) == source


def test_an_existing_folder_with_an_at_sign_has_no_version(tmp_path: Path) -> None:
    """The path of an existing folder is not split."""
    (tmp_path / "models@2").mkdir()

    assert parse_source(str(tmp_path / "models@2")) == FolderSource(tmp_path / "models@2")


@pytest.mark.parametrize(
    "text", ["models:", "models:/churn", "models:/churn/", "models:/churn/latest", "models:/churn/0", "models:/a/1@b",
             "models:churn@a", "models:/@a", "models://churn@a"],
)  # fmt: skip
def test_a_malformed_registry_source_is_refused(text: str) -> None:
    """The message contains the syntax."""
    with pytest.raises(SettingsError, match="models:/NAME@ALIAS or models:/NAME/NUMBER"):
        parse_source(text)


@given(st.text(alphabet=st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_text_is_parsed(text: str) -> None:
    """The text of a parsed folder source parses to the same source."""
    source = parse_source(f"./{text}")

    assert isinstance(source, FolderSource)
    assert parse_source(str(source)) == source
