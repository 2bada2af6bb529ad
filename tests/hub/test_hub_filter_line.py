"""The parser of the filter line: what it reads, what it refuses and at which position."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace_hub.queries.filter_line import (
    EXISTS,
    MAX_CONDITIONS,
    MAX_LINE_LENGTH,
    OPERATORS,
    Condition,
    FilterLineError,
    format_condition,
    parse_line,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
conditions = st.tuples(texts, st.sampled_from(OPERATORS), texts).map(
    lambda parts: (parts[0], parts[1], "" if parts[1] == EXISTS else parts[2])
)


def parts(line: str) -> list[tuple[str, str, str]]:
    """Return field, operator and value of each condition."""
    return [(item.field, item.operator, item.value) for item in parse_line(line)]


def test_a_line_has_conditions() -> None:
    """Quotation marks and `and` are optional, and positions count from 1."""
    line = 'service = "shop" duration > 100ms and http.route ~ predict AND error exists a!=b'
    assert parts(line) == [
        ("service", "=", "shop"),
        ("duration", ">", "100ms"),
        ("http.route", "~", "predict"),
        ("error", "exists", ""),
        ("a", "!=", "b"),
    ]
    assert parse_line("  a >= 2")[0] == Condition("a", ">=", "2", position=3, value_position=8)
    assert parts("") == parts("  \n ") == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a=b=c", [("a", "=", "b=c")]),
        ("url = http://x/?q=1", [("url", "=", "http://x/?q=1")]),
        ('"a b" = "c \\"d\\" \\\\ \\n \\."', [("a b", "=", 'c "d" \\ \n \\.')]),
        ("path = C:\\temp", [("path", "=", "C:\\temp")]),
        ("and = 1 and and = 2", [("and", "=", "1"), ("and", "=", "2")]),
        ("exists exists", [("exists", "exists", "")]),
        ("a = exists", [("a", "=", "exists")]),
        ('a = ""', [("a", "=", "")]),
    ],
)
def test_unusual_lines_are_read(line: str, expected: list[tuple[str, str, str]]) -> None:
    """Values may contain operators, and quoted texts may contain anything."""
    assert parts(line) == expected


@pytest.mark.parametrize(
    ("line", "position", "text"),
    [
        ("service", 8, "the filter ends here; it needs one of != >="),
        ("service = ", 11, "the filter ends here; it needs a value after ="),
        ("a = 1 = 2", 7, "expected the name of a field, not '='"),
        ("a b = 1", 3, "after a, not 'b'"),
        ('a = "open', 5, "quotation mark has no end"),
        ('a = "b"c', 5, "quotation mark has no end that a space follows"),
        ("duration >> 100ms", 11, "expected a value after >, not '>'"),
        ("a == 1", 4, "expected a value after =, not '='"),
        ("a existsb", 3, "not 'existsb'"),
        ("a = 1 " * (MAX_CONDITIONS + 1), 6 * MAX_CONDITIONS + 1, "at most 16 conditions"),
        ("x" * (MAX_LINE_LENGTH + 1), MAX_LINE_LENGTH + 1, "at most 4000 characters"),
    ],
)
def test_an_invalid_line_names_the_position(line: str, position: int, text: str) -> None:
    """The message says what is wrong at which character."""
    with pytest.raises(FilterLineError) as error:
        parse_line(line)
    assert error.value.position == position
    assert str(error.value).startswith(f"character {position}: ")
    assert text in str(error.value)


@given(st.lists(conditions, max_size=6), st.sampled_from([" ", "  ", " and ", "\n"]))
def test_a_formatted_condition_is_read_as_the_same(expected: list[tuple[str, str, str]], separator: str) -> None:
    """Any field and value can be written, alone or among others."""
    assert parts(separator.join(format_condition(*item) for item in expected)) == expected


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
    | st.lists(
        st.sampled_from(["a", '"', "\\", "=", "!", ">", "<", "~", " ", "exists", "and", "b c"]), max_size=14
    ).map("".join)
)
def test_any_text_is_read_or_refused_at_a_position_in_it(line: str) -> None:
    """The parser never fails otherwise, and what it reads can be written and read again."""
    try:
        read = parse_line(line)
    except FilterLineError as error:
        position = error.position
        read = []
    else:
        position = 1
    assert 1 <= position <= len(line) + 1
    again = " ".join(format_condition(item.field, item.operator, item.value) for item in read)
    assert parts(again) == [(item.field, item.operator, item.value) for item in read]
