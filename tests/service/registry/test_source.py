"""What a source says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.bundles.registry.source import FolderSource, MlflowSource, parse_source
from modeltrace.errors import SettingsError


@pytest.mark.parametrize(
    ("said", "source"),
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
def test_a_source_is_a_folder_or_a_registered_model(said: str, source: FolderSource | MlflowSource) -> None:
    """With an alias, a number or a version behind it."""
    assert parse_source(said) == source


def test_a_folder_with_an_at_sign_is_meant_as_it_is_written(tmp_path: Path) -> None:
    """What is there is no version of something else."""
    (tmp_path / "models@2").mkdir()

    assert parse_source(str(tmp_path / "models@2")) == FolderSource(tmp_path / "models@2")


@pytest.mark.parametrize(
    "said", ["models:", "models:/churn", "models:/churn/", "models:/churn/latest", "models:/churn/0", "models:/a/1@b",
             "models:churn@a", "models:/@a", "models://churn@a"],
)  # fmt: skip
def test_half_a_registered_model_is_refused(said: str) -> None:
    """The message says how one is written."""
    with pytest.raises(SettingsError, match="models:/NAME@ALIAS or models:/NAME/NUMBER"):
        parse_source(said)


@given(st.text(alphabet=st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_text_is_a_folder_or_is_refused_in_words(said: str) -> None:
    """And what a folder says of itself reads back as the same."""
    source = parse_source(f"./{said}")

    assert isinstance(source, FolderSource)
    assert parse_source(str(source)) == source
