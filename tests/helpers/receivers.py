"""Receivers that record what they receive: notifications over HTTP and SMTP, and OTLP endpoints."""

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
    """One request to the HTTP receiver."""

    path: str
    authorization: str
    body: Any


@dataclass
class NotificationReceivers:
    """The requests and e-mails received, in order."""

    http: str
    smtp: str
    posts: list[Post] = field(default_factory=list)
    emails: list[EmailMessage] = field(default_factory=list)

    def connect(self, folder: Path) -> None:
        """Configure a copy of deploy/alertmanager to send to these receivers without delay.

        Changes secrets, addresses and intervals; routes, receivers and templates stay unchanged.
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
    """Run both receivers."""
    smtp_port = free_port()
    handler = type("Handler", (_Handler,), {"posts": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    receivers = NotificationReceivers(f"http://127.0.0.1:{server.server_port}", f"127.0.0.1:{smtp_port}", handler.posts)
    mailbox = Controller(
        _Mailbox(receivers.emails),
        hostname="127.0.0.1",
        port=smtp_port,
        authenticator=_authenticate,
        auth_require_tls=False,
        auth_exclude_mechanism=["LOGIN"],  # its prompts are unknown to Alertmanager
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    mailbox.start()
    try:
        yield receivers
    finally:
        mailbox.stop()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Accepts JSON and responds like each of the channels."""

    posts: list[Post]

    def do_POST(self) -> None:
        """Record the request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.posts.append(Post(self.path, self.headers.get("Authorization", ""), body))
        self.send_response(202 if self.path.startswith(("/pagerduty", "/opsgenie")) else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class _Mailbox:
    """Records e-mails of authenticated senders."""

    def __init__(self, mails: list[EmailMessage]) -> None:
        self._mails = mails

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  the name in aiosmtpd
        """Record an e-mail."""
        if not session.authenticated:
            return "530 authentication required"
        assert isinstance(envelope.content, bytes)
        self._mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


def _authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object) -> AuthResult:
    valid = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
    return AuthResult(success=valid)


class ReceivedRequest(NamedTuple):
    """One OTLP request: the path of the URL or of the gRPC method, headers in lower case, and the body."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Response(NamedTuple):
    """The response of an OTLP endpoint: status, headers or trailing metadata, and body."""

    status: int | grpc.StatusCode = 200
    headers: Mapping[str, str | bytes] = {}
    body: bytes = b""


@dataclass
class OtlpEndpoint:
    """An OTLP endpoint whose response to each request is set by `respond`."""

    url: str
    respond: Callable[[ReceivedRequest], Response] = lambda _: Response()
    requests: list[ReceivedRequest] = field(default_factory=list)
    accepted: list[bytes] = field(default_factory=list)

    def handle(self, request: ReceivedRequest) -> Response:
        """Record a request and return its response."""
        self.requests.append(request)
        response = self.respond(request)
        if response.status in (200, grpc.StatusCode.OK):
            self.accepted.append(request.body)
        return response


@contextmanager
def otlp_http(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[OtlpEndpoint]:
    """Run an OTLP/HTTP endpoint; each request has its own connection, so that none outlives the endpoint."""
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
    """Run an OTLP/gRPC endpoint that accepts any method."""
    endpoint = OtlpEndpoint("")
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, handlers=[_OtlpMethods(endpoint)], options=[("grpc.so_reuseport", 0)])
        address = f"127.0.0.1:{port}"
        bound_port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        endpoint.url = f"{'https' if credentials else 'http'}://127.0.0.1:{bound_port}"
        server.start()
        try:
            yield endpoint
        finally:
            server.stop(None).wait()


class _OtlpHandler(BaseHTTPRequestHandler):
    endpoint: OtlpEndpoint

    def do_POST(self) -> None:
        """Send the response of the endpoint."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        response = self.endpoint.handle(ReceivedRequest(self.path, headers, body))
        assert isinstance(response.status, int)
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, str(value))
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class _OtlpMethods(grpc.GenericRpcHandler):
    def __init__(self, endpoint: OtlpEndpoint) -> None:
        self._endpoint = endpoint

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Pass the encoded request to the endpoint, whatever the method."""

        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            headers = {key: str(value) for key, value in context.invocation_metadata()}
            response = self._endpoint.handle(ReceivedRequest(handler_call_details.method, headers, body))
            context.set_trailing_metadata(tuple(response.headers.items()))
            if isinstance(response.status, grpc.StatusCode) and response.status is not grpc.StatusCode.OK:
                context.abort(response.status, "configured")
            return response.body

        return grpc.unary_unary_rpc_method_handler(export)
