"""Nothing that others have named reaches the terminal as a control sequence."""

import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

import modeltrace
from modeltrace.bundles.manifest import read_manifest
from modeltrace.cli import main
from modeltrace.cli.terminal import SafeConsole, echo
from modeltrace.cli.up import TerminalScreen
from modeltrace.client.service import parse_model
from modeltrace.errors import BundleError
from modeltrace.printable import escape_control_characters, has_control_characters, truncate
from modeltrace.telemetry.logging import TerminalHandler
from tests.helpers.bundles import edit_manifest, pack_iris

HOSTILE = "a\x1b]0;pwned\x07\x1b[2J\x9b31m\x7f\r\u202egnp.exe\u2066"
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
any_text = st.text(st.characters(), max_size=30) | st.text(st.characters(max_codepoint=0x9F), max_size=30)


@given(any_text)
def test_what_is_escaped_is_safe_and_says_the_same(text: str) -> None:
    """The escape is JSON's: a JSON text that is escaped is equal, and nothing else changes."""
    escaped = escape_control_characters(text)

    assert not UNSAFE.search(escaped)
    assert "\n" not in escape_control_characters(text, keep_newlines=False)
    assert escape_control_characters(escaped) == escaped
    said = json.dumps([text], ensure_ascii=False)
    assert json.loads(escape_control_characters(said)) == [text]
    if not UNSAFE.search(text):
        assert escaped == text


@given(any_text)
def test_a_name_with_controls_is_known(text: str) -> None:
    """What a name may not hold is escaped in output as well; marks of direction are escaped alone."""
    if has_control_characters(text):
        assert escape_control_characters(text, keep_newlines=False) != text


def test_a_console_escapes_whatever_it_is_given() -> None:
    """Text, markup, tables and styles: only rich's own sequences are left."""
    for terminal in (False, True):
        file = io.StringIO()
        console = SafeConsole(
            file=file, force_terminal=terminal, color_system="standard" if terminal else None, width=200
        )
        table = Table("column", title=HOSTILE)
        table.add_row(Text(HOSTILE, style="bold"))
        console.print(HOSTILE, style="red")
        console.print(table)
        console.print(Text("plain\nlines\tstay"))

        written = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
        assert not UNSAFE.search(written)
        assert r"\u001b]0;pwned" in written
        assert ("\x1b[31m" in file.getvalue()) == terminal


def test_markup_and_emoji_codes_of_others_are_printed_as_they_stand() -> None:
    """A class may be called `[/]`, which is no markup that rich takes, and a feature `a:key:b`."""
    file = io.StringIO()
    console = SafeConsole(file=file, width=80)
    table = Table("[bold]column")
    table.add_row("[/] [red]class")
    console.print(table)
    console.print("a:key:b [link=http://evil.example]")

    for text in ("[bold]column", "[/] [red]class", "a:key:b [link=http://evil.example]"):
        assert text in file.getvalue()


def test_what_is_waited_for_may_hold_brackets() -> None:
    """A folder may be called `[/]`; a spinner reads markup in whatever is no `Text`."""
    file = io.StringIO()
    with TerminalScreen(SafeConsole(file=file, force_terminal=True, width=80)) as screen:
        screen.show_waiting("the bundle that [/] means")

    assert "the bundle that [/] means" in file.getvalue()


def test_a_line_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """On both streams."""
    echo(HOSTILE)
    echo(HOSTILE, err=True)

    for written in capsys.readouterr():
        assert written == escape_control_characters(HOSTILE) + "\n"
        assert not UNSAFE.search(written)


def test_log_lines_on_a_terminal_are_escaped() -> None:
    """JSON lines keep C1 and marks of direction as they are, which a terminal obeys."""
    file = io.StringIO()
    handler = TerminalHandler(file)
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, HOSTILE, None, None))

    assert file.getvalue() == escape_control_characters(HOSTILE) + "\n"


@pytest.mark.parametrize("key", ["name", "version"])
def test_a_bundle_with_such_a_name_is_refused(key: str, tmp_path: Path) -> None:
    """The message is one safe line."""
    bundle = pack_iris(tmp_path / "b", "1.0.0")
    edit_manifest(bundle, **{key: HOSTILE})

    with pytest.raises(BundleError, match=f"{key}: .*control character") as refused:
        read_manifest(bundle)
    assert not UNSAFE.search(str(refused.value))


def test_keys_of_a_manifest_are_escaped(tmp_path: Path) -> None:
    """A key that is not known is named in the message."""
    bundle = pack_iris(tmp_path / "b", "1.0.0")
    edit_manifest(bundle, **{HOSTILE + "\n": 1})

    with pytest.raises(BundleError, match="pwned") as refused:
        read_manifest(bundle)
    assert not UNSAFE.search(str(refused.value))
    assert "\n" not in str(refused.value)


def test_an_error_of_the_command_line_is_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a message repeats."""

    def fails() -> None:
        raise BundleError(f"no bundle {HOSTILE} [bold]")

    monkeypatch.setattr(main, "app", fails)
    with pytest.raises(SystemExit):
        main.main()

    written = capsys.readouterr().err
    assert not UNSAFE.search(re.sub(r"\x1b\[[0-9;]*m", "", written))
    assert r"\u001b]0;pwned" in written
    assert "[bold]" in written


def test_what_a_server_calls_its_model_is_escaped() -> None:
    """A name of a server is one line."""
    said: dict[str, Any] = {"name": HOSTILE + "\n", "version": "1\x9b", "features": [], "classes": None}
    model = parse_model(httpx.Response(200, json=said), "http://127.0.0.1:1")

    assert not UNSAFE.search(model.name + model.version)
    assert "\n" not in model.name


def test_a_text_is_cut_with_a_mark() -> None:
    """The mark says how much is left out."""
    assert truncate("abc", 3) == "abc"
    assert truncate("abcdef", 3) == "abc… (3 more characters)"


def test_commands_print_in_one_way() -> None:
    """Whatever a command prints goes through `modeltrace.cli.terminal`."""
    root = Path(modeltrace.__file__).parent
    elsewhere = {"terminal.py", "programs", "mlflow_client.py", "mlflow_process.py"}  # pipes to a process of its own
    files = [path for path in root.rglob("*.py") if not elsewhere & set(path.relative_to(root).parts)]
    unsafe = re.compile(r"typer\.echo|click\.echo|(?<!\.)\bprint\(|(?<!Safe)Console\(")

    found = [str(path.relative_to(root)) for path in files if unsafe.search(path.read_text())]

    assert found == []
