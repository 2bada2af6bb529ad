"""The file of receivers of alerts: what is valid, and what is an error that says what is wrong."""

from pathlib import Path

import orjson
import pytest

from modeltrace_hub.alerts.config import read_alert_config
from modeltrace_hub.errors import SettingsError
from tests.helpers.alerts import SECRET, slack, write_config
from tests.helpers.in_process_hubs import in_process_hub


def email(**changes: object) -> str:
    """Return a receiver of e-mails."""
    values = {"name": "a", "type": "email", "host": "h", "sender": "a@b", "to": ["c@d"], **changes}
    return "\n".join(["[[receivers]]", *(f"{name} = {orjson.dumps(value).decode()}" for name, value in values.items())])


def test_a_file_is_read_with_the_files_that_it_names(tmp_path: Path) -> None:
    """Relative paths are relative to the folder of the file; alerts are selected by name, severity and team."""
    text = 'interval = "30s"\ndisabled = ["NoPredictions"]\n' + slack(
        alerts=["InputDrift", "ConceptDrift", "ServiceDown"], severities=["page"], teams=["ml"]
    )
    config = read_alert_config(write_config(tmp_path, text, slack_url=f"https://hooks.example.org/{SECRET}"))

    (receiver,) = config.receivers
    assert config.interval.total_seconds() == 30
    assert config.disabled == ["NoPredictions"]
    assert receiver.rules == {"ConceptDrift"}
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("receivers = 1", "receivers: Input should be a valid list"),
        ("[[receivers", "is not TOML"),
        ("colour = 'red'", "colour: Extra inputs are not permitted"),
        ("interval = '10 parsecs'", "interval: '10 parsecs' is not a duration"),
        ("interval = '1ms'", "interval: Input should be greater than or equal to 1 second"),
        ("disabled = ['Drift']", "the hub has no alert Drift; its alerts are InputDrift, "),
        (slack(alerts=["CollectorDown"]), "the hub has no alert CollectorDown"),
        (slack(url="https://hooks.example.org/x"), "write either url or url_file"),
        (slack(type_="x"), "type_: Extra inputs are not permitted"),
        (slack() + "\n" + slack(), "two receivers have the same name"),
        ("[[receivers]]\nname='a'\ntype='slack'\nurl='https://h/x'", "is a secret: write it to a file"),
        ("[[receivers]]\nname='a'\ntype='webhook'\nurl='http://example.org/x'", "example.org would not be encrypted"),
        ("[[receivers]]\nname='a'\ntype='webhook'\nurl='https://me:pass@h/'", "not a URL without user name"),
        ("[[receivers]]\nname='a'\ntype='webhook'\nurl='ftp://h/'", "not a URL"),
        ("[[receivers]]\nname='a'\ntype='webhook'\nurl='https://[::1/'", "not a URL"),
        ("[[receivers]]\nname='a'\ntype='pager'", "does not match any of the expected tags"),
        ("[[receivers]]\nname='a'\ntype='webhook'\nurl_file='missing'", "missing, which should contain a secret"),
        (
            "[[receivers]]\nname='a'\ntype='webhook'\nurl='https://h/'\nca_file='missing'",
            "missing cannot be used: No such file",
        ),
        (
            "[[receivers]]\nname='a'\ntype='email'\nhost='mail.example.org'\nsender='a@b'\nto=['c@d']\ntls='none'",
            "mail.example.org would not be encrypted",
        ),
        ("[[receivers]]\nname='a'\ntype='email'\nhost='h'\nsender='a@b'\nto=['nobody']", "not an e-mail address"),
        (
            "[[receivers]]\nname='a'\ntype='email'\nhost='h'\nsender='a@b'\nto=['c@d']\nusername='u'",
            "username and password_file belong together",
        ),
        (slack(alerts=[]), "alerts: Value should have at least 1 item"),
        (slack(severities=[]), "severities: List should have at least 1 item"),
        (slack(teams=[]), "teams: List should have at least 1 item"),
        (slack(alerts=["InputDrift"], severities=["page"]), "the receiver 'team' gets no alert"),
        ("disabled = ['InputDrift']\n" + slack(alerts=["InputDrift"]), "the receiver 'team' gets no alert"),
        ("a = " + "[" * 5000 + "]" * 5000, "its values are nested too deeply"),
        (slack(ca_file="a\0b"), "ca_file: the path contains a NUL character"),
        (slack(authorization_file="a\0b"), "authorization_file: the path contains a NUL character"),
        (email(username="u", password_file="\0"), "password_file: the path contains a NUL character"),  # noqa: S106
        (email(host="smtps://h:25"), "'smtps://h:25' is not a host"),
        (email(host="h:25"), "'h:25' is not a host"),
        *(
            (email(to=[text]), f"{text!r} is not an e-mail address")
            for text in ("@", "a b@c", "c@d, e@f", "a@", "x <@>")
        ),
        (email(sender="@"), "'@' is not an e-mail address"),
        (email(name=" "), "name: ' ' is blank"),
        ('hub_url = "https://[bad"', "hub_url: the address is not a URL"),
        ('hub_url = "https://h:99999"', "hub_url: the address is not a URL"),
        ('hub_url = "h/x"', "hub_url: the address is not that of a hub"),
        ("[[receivers]]\nname='a'\ntype='webhook'\nurl=\"https://h/\\u0000\"", "a space or a control character"),
    ],
)
def test_an_invalid_file_is_an_error_that_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    """The message names the place, and repeats no secret."""
    path = write_config(tmp_path, text, slack_url=f"https://hooks.example.org/{SECRET}")

    with pytest.raises(SettingsError) as raised:
        read_alert_config(path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)
    assert "pass@" not in str(raised.value)


def test_addresses_with_names_and_ip_addresses_of_hosts_are_valid(tmp_path: Path) -> None:
    """As mail servers have them."""
    for host in ("::1", "127.0.0.1", "mail.example.org"):
        text = email(host=host, sender="Hub <hub@example.org>", to=['"Team, ML" <ml@example.org>'])
        assert len(read_alert_config(write_config(tmp_path, text)).receivers) == 1


@pytest.mark.parametrize("content", [f"http://hooks.example.org/{SECRET}", f"{SECRET}\nmore", "", "x" * 5000])
def test_an_invalid_secret_is_not_repeated(tmp_path: Path, content: str) -> None:
    """An address that is not encrypted, several lines, an empty file, a large file."""
    with pytest.raises(SettingsError) as raised:
        read_alert_config(write_config(tmp_path, slack(), slack_url=content))
    assert "slack_url" in str(raised.value)
    assert SECRET not in str(raised.value)


def test_the_hub_does_not_start_with_an_invalid_file(tmp_path: Path) -> None:
    """It says why before it opens its database."""
    with pytest.raises(SettingsError, match="cannot be read"), in_process_hub(alerts=tmp_path / "missing.toml"):
        pass
