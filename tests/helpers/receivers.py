"""What is sent to: an HTTP and an SMTP receiver of notifications, and OTLP endpoints, which keep what they get."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import grpc
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
class NotificationReceivers:
    """What came in over HTTP and over SMTP, in order."""

    http: str
    smtp: str
    posts: list[Post] = field(default_factory=list)
    emails: list[EmailMessage] = field(default_factory=list)

    def connect(self, folder: Path) -> None:
        """Make a copy of deploy/alertmanager send here, and soon: its secrets, its addresses, its waiting.

        Routes, receivers and templates stay as they are.
        """
        secrets = {
            **{f"{channel}_{team}_url": f"{self.http}/{channel}/{team}" for channel in CHAT_CHANNELS for team in TEAMS},
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


CHAT_CHANNELS = ("slack", "teams")
TEAMS = ("sre", "ml")


@contextmanager
def notification_receivers() -> Iterator[NotificationReceivers]:
    """Listen until the end of the context."""
    smtp_port = free_port()
    handler = type("Handler", (_Handler,), {"posts": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    found = NotificationReceivers(f"http://127.0.0.1:{server.server_port}", f"127.0.0.1:{smtp_port}", handler.posts)
    mailbox = Controller(
        _Mailbox(found.emails),
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


class ReceivedRequest(NamedTuple):
    """One OTLP request: the path of the URL or of the gRPC method, headers in small letters, and the bytes."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Response(NamedTuple):
    """What an OTLP endpoint says: headers, or trailing metadata. A gRPC status other than OK ends the call."""

    status: int | grpc.StatusCode = 200
    headers: Mapping[str, str | bytes] = {}
    body: bytes = b""


@dataclass
class OtlpEndpoint:
    """An OTLP endpoint that answers as told, from one request to the next."""

    url: str
    respond: Callable[[ReceivedRequest], Response] = lambda _: Response()
    requests: list[ReceivedRequest] = field(default_factory=list)
    accepted: list[bytes] = field(default_factory=list)

    def handle(self, sent: ReceivedRequest) -> Response:
        """Keep a request, and answer it."""
        self.requests.append(sent)
        answer = self.respond(sent)
        if answer.status in (200, grpc.StatusCode.OK):
            self.accepted.append(sent.body)
        return answer


@contextmanager
def otlp_http(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[OtlpEndpoint]:
    """An OTLP/HTTP endpoint; each request has a connection of its own, so none outlives the endpoint."""
    endpoint = OtlpEndpoint("")
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_OtlpHandler,), {"endpoint": endpoint}))
    endpoint.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def otlp_grpc(port: int = 0, credentials: grpc.ServerCredentials | None = None) -> Iterator[OtlpEndpoint]:
    """An OTLP/gRPC endpoint that takes any method."""
    endpoint = OtlpEndpoint("")
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, handlers=[_OtlpMethods(endpoint)], options=[("grpc.so_reuseport", 0)])
        address = f"127.0.0.1:{port}"
        bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        endpoint.url = f"{'https' if credentials else 'http'}://127.0.0.1:{bound}"
        server.start()
        try:
            yield endpoint
        finally:
            server.stop(None).wait()


class _OtlpHandler(BaseHTTPRequestHandler):
    endpoint: OtlpEndpoint

    def do_POST(self) -> None:
        """Answer as the endpoint does."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.endpoint.handle(ReceivedRequest(self.path, headers, body))
        assert isinstance(answer.status, int)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, str(value))
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _OtlpMethods(grpc.GenericRpcHandler):
    def __init__(self, endpoint: OtlpEndpoint) -> None:
        self._endpoint = endpoint

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Take the bytes as they are, whatever the method."""

        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            headers = {key: str(value) for key, value in context.invocation_metadata()}
            answer = self._endpoint.handle(ReceivedRequest(handler_call_details.method, headers, body))
            context.set_trailing_metadata(tuple(answer.headers.items()))
            if isinstance(answer.status, grpc.StatusCode) and answer.status is not grpc.StatusCode.OK:
                context.abort(answer.status, "as told")
            return answer.body

        return grpc.unary_unary_rpc_method_handler(export)
