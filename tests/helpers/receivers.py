"""What notifications are sent to: an HTTP and an SMTP receiver that keep what they get."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.helpers.processes import free_port

PASSWORD = "what only the mail server and a file know"  # noqa: S105  made up


@dataclass(frozen=True)
class Post:
    """One request that the HTTP receiver got."""

    path: str
    authorization: str
    body: Any


@dataclass
class Receivers:
    """What came in over HTTP and over SMTP, in order."""

    http: str
    smtp: str
    posts: list[Post] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)

    def connect(self, folder: Path) -> None:
        """Make a copy of deploy/alertmanager send here, and soon: its secrets, its addresses, its waiting.

        Routes, receivers and templates stay as they are.
        """
        secrets = {
            **{f"{channel}_{team}_url": f"{self.http}/{channel}/{team}" for channel in CHATS for team in TEAMS},
            **{f"pagerduty_{team}_key": f"key of {team}" for team in TEAMS},
            "opsgenie_key": "key of opsgenie",
            "smtp_password": PASSWORD,
            "webhook_url": f"{self.http}/webhook",
        }
        for name, secret in secrets.items():
            (folder / "secrets" / name).write_text(secret + "\n")
        config = yaml.safe_load((folder / "alertmanager.yml").read_text())
        config["global"] |= {
            "smtp_smarthost": self.smtp,
            "smtp_require_tls": False,
            "pagerduty_url": f"{self.http}/pagerduty",
            "opsgenie_api_url": f"{self.http}/opsgenie/",
        }
        config["route"] |= {"group_wait": "200ms", "group_interval": "1s"}
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))


CHATS = ("slack", "teams")
TEAMS = ("sre", "ml")


@contextmanager
def receivers() -> Iterator[Receivers]:
    """Listen until the end of the context."""
    smtp_port = free_port()
    handler = type("Handler", (_Handler,), {"posts": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    found = Receivers(f"http://127.0.0.1:{server.server_port}", f"127.0.0.1:{smtp_port}", handler.posts)
    mailbox = Controller(
        _Mailbox(found.mails),
        hostname="127.0.0.1",
        port=smtp_port,
        authenticator=_authenticate,
        auth_require_tls=False,
        auth_exclude_mechanism=["LOGIN"],  # asks in words that Alertmanager does not know
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    mailbox.start()
    try:
        yield found
    finally:
        mailbox.stop()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Takes JSON and answers as each of the channels would."""

    posts: list[Post]

    def do_POST(self) -> None:
        """Keep the request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.posts.append(Post(self.path, self.headers.get("Authorization", ""), body))
        self.send_response(202 if self.path.startswith(("/pagerduty", "/opsgenie")) else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Mailbox:
    """Keeps mails of senders that gave the password."""

    def __init__(self, mails: list[EmailMessage]) -> None:
        self._mails = mails

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  its name there
        """Take a mail."""
        if not session.authenticated:
            return "530 authentication required"
        assert isinstance(envelope.content, bytes)
        self._mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


def _authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object) -> AuthResult:
    right = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
    return AuthResult(success=right)
