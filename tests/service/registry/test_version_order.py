"""Versions have a total order, which determines the version to serve."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.bundles.registry.version_order import is_pre_release, sort_best_first, sort_key

TEXT = st.text(min_size=1, max_size=8) | st.from_regex(
    r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}((a|b|rc|-rc\.)[0-9])?", fullmatch=True
)


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("1.9.0", "1.10.0"), ("2", "10"), ("v1.2", "v1.3"), ("1.0.0-rc.1", "1.0.0"), ("1.0.0rc1", "1.0.0rc2"),
        ("2026-11-09", "2026-11-27"), ("blue-2", "blue-10"), ("blue", "0.1"), ("1.0", "1.0.post1"),
    ],
)  # fmt: skip
def test_a_later_version_is_higher(lower: str, higher: str) -> None:
    """PEP 440 and semantic versions; other texts are lower, and ordered by their numbers."""
    assert sort_key(lower) < sort_key(higher)


def test_a_release_precedes_any_pre_release() -> None:
    """A pre-release comes last, however high, as with pip."""
    assert sort_best_first(["2.0.0rc1", "1.9.0", "1.10.0", "2.0.0-alpha.1", "1.9.0"]) == [
        "1.10.0",
        "1.9.0",
        "2.0.0rc1",
        "2.0.0-alpha.1",
    ]


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_every_set_of_versions_has_one_order(versions: list[str]) -> None:
    """The order does not depend on the order of the input, and no version is lost."""
    ordered = sort_best_first(versions)

    assert ordered == sort_best_first(reversed(versions))
    assert sorted(ordered) == sorted(set(versions))
    releases = [not is_pre_release(version) for version in ordered]
    assert releases == sorted(releases, reverse=True)


@given(TEXT, TEXT)
def test_only_identical_versions_are_equal(first: str, second: str) -> None:
    """`1.0` and `1.0.0` are equal in PEP 440, but have an order here."""
    assert (sort_key(first) == sort_key(second)) == (first == second)
