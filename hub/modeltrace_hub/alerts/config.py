"""Read the file of `--alerts`: which alerts are sent to which receivers.

Secrets are in files of their own, which are read for each message, so a secret can be replaced while the hub runs.
"""

import ipaddress
import re
import ssl
import tomllib
from collections.abc import Collection
from datetime import timedelta
from email.utils import getaddresses
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from modeltrace_http.addresses import is_loopback
from modeltrace_hub.alerts.rules import RULES
from modeltrace_hub.durations import parse_duration_ns
from modeltrace_hub.errors import SettingsError

MAX_SECRET_BYTES: Final = 4096


def _parse_duration(value: object) -> timedelta:
    ns = parse_duration_ns(value) if isinstance(value, str) else None
    if ns is None:
        raise ValueError(f"{value!r} is not a duration: write a text such as '30s', '5m' or '4h'")
    return timedelta(microseconds=ns / 1000)


Duration = Annotated[timedelta, BeforeValidator(_parse_duration)]


def check_url(url: str) -> str:
    """Return an address to which messages may be sent: https, or http on this machine.

    Raises:
        ValueError: it is not; the message does not repeat the address, which may be a secret.
    """
    parts, host = _split_url(url)
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None or parts.fragment:
        raise ValueError("the address is not a URL without user name; write https://HOST/PATH")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"messages to {host} would not be encrypted; write https://")
    return url


def _split_url(url: str) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        _ = parts.port
    except ValueError:
        raise ValueError("the address is not a URL; write https://HOST/PATH") from None
    # `urlsplit` removes some control characters.
    if not url.isprintable() or " " in url:
        raise ValueError("the address is not a URL, because it contains a space or a control character")
    return parts, host


def _check_hub_url(url: str) -> str:
    parts, host = _split_url(url)
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None or parts.query or parts.fragment:
        raise ValueError("the address is not that of a hub; write https://HOST or https://HOST/PATH")
    return url


def _check_name(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError(f"{name!r} is blank or contains a control character")
    return name


def _check_host(host: str) -> str:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not re.fullmatch(r"[\w.-]+", host):
            raise ValueError(f"{host!r} is not a host: write its name or IP address, without scheme and port") from None
    return host


def _check_email_address(text: str) -> str:
    addresses = getaddresses([text])
    if len(addresses) != 1 or not re.fullmatch(r"[^\s@,;]+@[^\s@,;]+", addresses[0][1]):
        raise ValueError(f"{text!r} is not an e-mail address")
    return text


def _check_path(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("the path contains a NUL character")
    return path


def _check_rules(names: list[str]) -> list[str]:
    unknown = sorted(set(names) - RULES.keys())
    if unknown:
        raise ValueError(f"the hub has no alert {', '.join(unknown)}; its alerts are {', '.join(RULES)}")
    return names


RuleNames = Annotated[list[str], AfterValidator(_check_rules)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_check_name)]
EmailAddress = Annotated[Name, AfterValidator(_check_email_address)]
FilePath = Annotated[Path, AfterValidator(_check_path)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Receiver(_Part):
    name: Name
    alerts: Annotated[RuleNames, Field(min_length=1)] | None = None  # None: all
    severities: list[Literal["page", "ticket"]] = Field(["page", "ticket"], min_length=1)
    teams: list[Literal["ml", "sre"]] = Field(["ml", "sre"], min_length=1)
    send_resolved: bool = True
    repeat_interval: Duration | None = Field(None, ge=timedelta(minutes=1))  # None: that of the file
    ca_file: FilePath | None = None  # certificates of a private authority; None: those of the system

    @property
    def rules(self) -> Collection[str]:
        """The names of the alerts that are sent to the receiver."""
        return {
            rule.name
            for rule in RULES.values()
            if (self.alerts is None or rule.name in self.alerts)
            and rule.severity in self.severities
            and rule.team in self.teams
        }

    def tls_context(self) -> ssl.SSLContext:
        """Return the TLS context, which checks certificates and host names."""
        return ssl.create_default_context(cafile=self.ca_file)


class HttpReceiver(_Receiver):
    """A receiver of HTTP requests: JSON as Alertmanager sends it (`webhook`), or a message for Slack (`slack`)."""

    type: Literal["webhook", "slack"]
    url: Annotated[str, AfterValidator(check_url)] | None = None
    url_file: FilePath | None = None
    authorization_file: FilePath | None = None  # the value of the header Authorization

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("write either url or url_file")
        if self.type == "slack" and self.url is not None:
            raise ValueError("the address of a Slack webhook is a secret: write it to a file, and name it in url_file")
        return self

    def read_url(self) -> str:
        """Return the address.

        Raises:
            SettingsError: the file cannot be read, or has no valid address.
        """
        if self.url_file is None:
            return self.url or ""
        try:
            return check_url(read_secret(self.url_file))
        except ValueError as error:
            raise SettingsError(f"{self.url_file}: {error}.") from None


class EmailReceiver(_Receiver):
    """A receiver of e-mails, which are handed to a mail server (SMTP)."""

    type: Literal["email"]
    host: Annotated[Name, AfterValidator(_check_host)]
    port: int = Field(587, ge=1, le=65535)
    tls: Literal["starttls", "tls", "none"] = "starttls"
    sender: EmailAddress
    to: list[EmailAddress] = Field(min_length=1, max_length=50)
    username: Name | None = None
    password_file: FilePath | None = None

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        if self.tls == "none" and not is_loopback(self.host.lower()):
            raise ValueError(f"messages to {self.host} would not be encrypted; write tls = 'starttls' or 'tls'")
        return self


Receiver = HttpReceiver | EmailReceiver


class AlertConfig(_Part):
    """The content of the file."""

    interval: Duration = Field(timedelta(minutes=1), ge=timedelta(seconds=1), le=timedelta(hours=1))
    resolve_after: Duration = Field(timedelta(minutes=5), le=timedelta(days=1))
    repeat_interval: Duration = Field(timedelta(hours=4), ge=timedelta(minutes=1))
    hub_url: Annotated[str, AfterValidator(_check_hub_url)] | None = None
    disabled: RuleNames = []
    receivers: list[Annotated[Receiver, Field(discriminator="type")]] = []

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [receiver.name for receiver in self.receivers]
        if len(set(names)) < len(names):
            raise ValueError("two receivers have the same name")
        for receiver in self.receivers:
            if not set(receiver.rules) - set(self.disabled):
                raise ValueError(
                    f"the receiver {receiver.name!r} gets no alert: none matches its alerts, severities and teams, "
                    "or all that do are disabled"
                )
        return self


def read_alert_config(path: Path) -> AlertConfig:
    """Read and check the file. Relative paths in it are relative to its folder.

    Raises:
        SettingsError: the file, or a file that it names, cannot be read or is invalid. The message repeats no secret.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The alerts file {path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"The alerts file {path} is not TOML: {error}.") from None
    except RecursionError:
        raise SettingsError(f"The alerts file {path} cannot be read: its values are nested too deeply.") from None
    try:
        config = AlertConfig.model_validate(content)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError(f"The alerts file {path} is invalid. {'; '.join(lines)}.") from None
    receivers = [_resolve_paths(receiver, path.parent) for receiver in config.receivers]
    for receiver in receivers:
        _check_files(receiver)
    return config.model_copy(update={"receivers": receivers})


def read_secret(path: Path) -> str:
    """Return the first line of a file with a secret.

    Raises:
        SettingsError: the file cannot be read, or is empty or too long.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
        secret = content.decode().strip()
    except OSError as error:
        raise SettingsError(f"{path}, which should contain a secret, cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}, which should contain a secret, is not text.") from None
    if not secret or len(content) > MAX_SECRET_BYTES or not secret.isprintable():
        raise SettingsError(f"{path} should contain one line with a secret.")
    return secret


def _resolve_paths(receiver: Receiver, folder: Path) -> Receiver:
    paths = {name: folder / value for name, value in receiver if isinstance(value, Path)}
    return receiver.model_copy(update=paths)


def _check_files(receiver: Receiver) -> None:
    try:
        receiver.tls_context()
    except OSError as error:  # also an SSLError
        raise SettingsError(f"The certificates {receiver.ca_file} cannot be used: {error.strerror or error}.") from None
    if isinstance(receiver, EmailReceiver):
        if receiver.password_file is not None:
            read_secret(receiver.password_file)
        return
    receiver.read_url()
    if receiver.authorization_file is not None:
        read_secret(receiver.authorization_file)
