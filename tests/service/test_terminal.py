"""Names, labels and messages never reach the terminal as control sequences."""

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
from rich.console import Group
from rich.table import Table
from rich.text import Text

import modeltrace
from modeltrace.bundles.manifest import read_manifest
from modeltrace.cli import main
from modeltrace.cli.up_screen import open_screen
from modeltrace.client.service import parse_model
from modeltrace.errors import BundleError
from modeltrace.printable import escape_control_characters, has_control_characters, truncate
from modeltrace.telemetry.logging import TerminalHandler
from modeltrace.terminal import SafeConsole, command, echo
from tests.helpers.bundles import edit_manifest, pack_iris

HOSTILE = "a\x1b]0;pwned\x07\x1b[2J\x9b31m\x7f\r\u202egnp.exe\u2066"
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
any_text = st.text(st.characters(), max_size=30) | st.text(st.characters(max_codepoint=0x9F), max_size=30)


@given(any_text)
def test_escaped_text_is_safe_and_equivalent(text: str) -> None:
    """The escapes are those of JSON: escaped JSON has the same value, and other characters do not change."""
    escaped = escape_control_characters(text)

    assert not UNSAFE.search(escaped)
    assert "\n" not in escape_control_characters(text, keep_newlines=False)
    assert escape_control_characters(escaped) == escaped
    encoded = json.dumps([text], ensure_ascii=False)
    assert json.loads(escape_control_characters(encoded)) == [text]
    if not UNSAFE.search(text):
        assert escaped == text


@given(any_text)
def test_control_characters_are_detected(text: str) -> None:
    """Characters that names may not contain are escaped in output; directional marks are only escaped."""
    if has_control_characters(text):
        assert escape_control_characters(text, keep_newlines=False) != text


def test_console_escapes_all_text() -> None:
    """In text and tables with styles, only the control sequences of rich remain."""
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


def test_markup_and_emoji_codes_are_printed_literally() -> None:
    """A class may have the name `[/]`, and a feature the name `a:key:b`."""
    file = io.StringIO()
    console = SafeConsole(file=file, width=80)
    table = Table("[bold]column")
    table.add_row("[/] [red]class")
    console.print(table)
    console.print("a:key:b [link=http://evil.example]")

    for text in ("[bold]column", "[/] [red]class", "a:key:b [link=http://evil.example]"):
        assert text in file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_cells_of_a_table_are_complete(terminal: bool) -> None:
    """A pipe has room for long values in one line; a terminal shows them in several lines."""
    file = io.StringIO()
    width = {"width": 80} if terminal else {}
    console = SafeConsole(file=file, force_terminal=terminal, color_system=None, **width)
    table = Table("a", "b", "c", box=None, pad_edge=False)
    table.add_row("x" * 60, "y" * 60, "z" * 60)
    console.print(Group(Text("title"), table))

    lines = file.getvalue().splitlines()
    assert "…" not in file.getvalue()
    assert {letter: file.getvalue().count(letter) for letter in "xyz"} == dict.fromkeys("xyz", 60)
    assert (len(lines) == 3) == (not terminal)
    assert max(map(len, lines)) < (81 if terminal else 200)


def test_hints_name_the_command_of_a_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`./dev run` sets the variable, because `modeltrace` is not on the PATH of the shell."""
    monkeypatch.delenv("MODELTRACE_COMMAND", raising=False)
    assert command("up hotel") == "modeltrace up hotel"
    monkeypatch.setenv("MODELTRACE_COMMAND", "./dev run modeltrace")
    assert command("up hotel") == "./dev run modeltrace up hotel"


def test_text_of_a_spinner_is_printed_literally() -> None:
    """A folder may have the name `[/]`, which rich would interpret as markup in the text of a spinner."""
    file = io.StringIO()
    with open_screen(SafeConsole(file=file, force_terminal=True, width=80)) as screen:
        screen.show_waiting("the bundle [/]")

    assert "the bundle [/]" in file.getvalue()


def test_echo_escapes_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Text is escaped on stdout and stderr."""
    echo(HOSTILE)
    echo(HOSTILE, err=True)

    for written in capsys.readouterr():
        assert written == escape_control_characters(HOSTILE) + "\n"
        assert not UNSAFE.search(written)


def test_log_lines_on_a_terminal_are_escaped() -> None:
    """JSON alone does not escape C1 controls and directional marks, which a terminal interprets."""
    file = io.StringIO()
    handler = TerminalHandler(file)
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, HOSTILE, None, None))

    assert file.getvalue() == escape_control_characters(HOSTILE) + "\n"


@pytest.mark.parametrize("key", ["name", "version"])
def test_bundle_with_control_characters_in_its_name_is_rejected(key: str, tmp_path: Path) -> None:
    """The message is escaped."""
    bundle = pack_iris(tmp_path / "b", "1.0.0")
    edit_manifest(bundle, **{key: HOSTILE})

    with pytest.raises(BundleError, match=f"{key}: .*control character") as error:
        read_manifest(bundle)
    assert not UNSAFE.search(str(error.value))


def test_keys_of_a_manifest_are_escaped(tmp_path: Path) -> None:
    """The message names the unknown key in escaped form."""
    bundle = pack_iris(tmp_path / "b", "1.0.0")
    edit_manifest(bundle, **{HOSTILE + "\n": 1})

    with pytest.raises(BundleError, match="pwned") as error:
        read_manifest(bundle)
    assert not UNSAFE.search(str(error.value))
    assert "\n" not in str(error.value)


def test_error_of_the_command_line_is_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message of an error may contain any text."""

    def fail() -> None:
        raise BundleError(f"no bundle {HOSTILE} [bold]")

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit):
        main.main()

    written = capsys.readouterr().err
    assert not UNSAFE.search(re.sub(r"\x1b\[[0-9;]*m", "", written))
    assert r"\u001b]0;pwned" in written
    assert "[bold]" in written


def test_model_name_of_a_server_is_escaped() -> None:
    """The name is one line."""
    body: dict[str, Any] = {
        "name": HOSTILE + "\n",
        "version": "1\x9b",
        "task": "regressor",
        "features": [],
        "classes": None,
    }
    model = parse_model(httpx.Response(200, json=body), "http://127.0.0.1:1")

    assert not UNSAFE.search(model.name + model.version)
    assert "\n" not in model.name


def test_truncated_text_has_a_mark() -> None:
    """The mark contains the number of omitted characters."""
    assert truncate("abc", 3) == "abc"
    assert truncate("abcdef", 3) == "abc… (3 more characters)"


def test_all_output_is_escaped() -> None:
    """All code of the service prints through `modeltrace.terminal`."""
    root = Path(modeltrace.__file__).parent
    excluded = {"terminal.py", "programs", "mlflow_client.py", "mlflow_process.py"}  # pipes to a child process
    files = [path for path in root.rglob("*.py") if not excluded & set(path.relative_to(root).parts)]
    unsafe = re.compile(r"typer\.echo|click\.echo|(?<!\.)\bprint\(|(?<!Safe)Console\(")

    offenders = [str(path.relative_to(root)) for path in files if unsafe.search(path.read_text())]

    assert offenders == []
