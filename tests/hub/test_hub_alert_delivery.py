"""Messages about alerts reach their receivers, also hostile ones."""

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modeltrace_hub.alerts import delivery, monitor
from modeltrace_hub.alerts.config import read_alert_config
from modeltrace_hub.alerts.monitor import AlertMonitor
from modeltrace_hub.alerts.rules import Condition
from modeltrace_hub.errors import StoreError
from tests.helpers.alerts import (
    SECRET,
    condition,
    slack,
    webhook,
    write_config,
)
from tests.helpers.certificates import self_signed
from tests.helpers.processes import free_port, wait_until
from tests.helpers.receivers import PASSWORD, Response, notification_receivers, otlp_http


@contextmanager
def running_monitor(path: Path, conditions: list[Condition], state_path: Path | None = None) -> Iterator[AlertMonitor]:
    """Run a monitor in a thread; `conditions` may be changed."""
    loop = asyncio.new_event_loop()
    watched = AlertMonitor(read_alert_config(path), lambda _: list(conditions), "http://127.0.0.1:4319", state_path)
    task = loop.create_task(watched.run())

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watched
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry soon, and wait for a response for a short time only."""
    monkeypatch.setattr(monitor, "MIN_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "SEND_SECONDS", 0.5)


def test_all_kinds_of_receivers_get_model_value_threshold_and_link(tmp_path: Path) -> None:
    """A webhook, Slack and an e-mail, when an alert fires and when it has ended."""
    with notification_receivers() as receivers:
        port = receivers.smtp.rpartition(":")[2]
        text = f"""
            interval = "1s"
            resolve_after = "0s"
            hub_url = "https://hub.example.org/base/"
            [[receivers]]
            name = "hook"
            type = "webhook"
            url = "{receivers.http}/webhook"
            authorization_file = "authorization"
            [[receivers]]
            name = "chat"
            type = "slack"
            url_file = "slack_url"
            [[receivers]]
            name = "mail"
            type = "email"
            host = "127.0.0.1"
            port = {port}
            tls = "none"
            sender = "hub@example.org"
            to = ["a@example.org", "b@example.org"]
            username = "hub"
            password_file = "password"
        """
        path = write_config(
            tmp_path, text, authorization="Bearer abc", slack_url=f"{receivers.http}/slack/x", password=PASSWORD
        )
        conditions = [condition("RequestFailures", 7.5, job="shop", ml_model_name="churn\nBcc: x@example.org")]
        with running_monitor(path, conditions):
            wait_until(
                lambda: len(receivers.posts) == 2 and len(receivers.emails) == 1, description="the first messages"
            )
            conditions.clear()
            wait_until(
                lambda: len(receivers.posts) == 4 and len(receivers.emails) == 2, description="the second messages"
            )

    hooks = [post for post in receivers.posts if post.path == "/webhook"]
    chats = [post for post in receivers.posts if post.path == "/slack/x"]
    assert [post.body["status"] for post in hooks] == ["firing", "resolved"]
    assert {post.authorization for post in hooks} == {"Bearer abc"}
    (alert,) = hooks[0].body["alerts"]
    assert alert["labels"]["alertname"] == "RequestFailures"
    assert alert["labels"]["severity"] == "page"
    assert alert["annotations"]["value"] == "7.5"
    assert alert["annotations"]["threshold"] == "0.5"
    assert alert["generatorURL"] == "https://hub.example.org/base/traces?a=b"
    assert hooks[1].body["alerts"][0]["fingerprint"] == alert["fingerprint"]
    assert hooks[1].body["alerts"][0]["endsAt"] > alert["startsAt"]
    assert "<https://hub.example.org/base/traces?a=b|Firing RequestFailures>" in chats[0].body["text"]
    assert "RequestFailures of &lt;shop&gt; &amp; co" in chats[0].body["text"]
    assert chats[1].body["text"].startswith("*[Resolved] RequestFailures churn Bcc: x@example.org shop*")
    first = receivers.emails[0]
    assert first["Subject"] == "[Firing] RequestFailures churn Bcc: x@example.org shop"
    assert first["To"] == "a@example.org, b@example.org"
    assert first["Bcc"] is None
    assert "value 7.5, threshold 0.5" in first.get_content()
    assert "https://hub.example.org/base/traces?a=b" in first.get_content()


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("status", [500, 429, 404])
def test_a_message_is_sent_again_until_it_is_accepted(tmp_path: Path, status: int) -> None:
    """The status of the receiver says why it was not accepted."""
    answers = iter([status, status])
    errors: list[str | None] = []
    with otlp_http() as endpoint:
        endpoint.respond = lambda _: Response(next(answers, 200))
        with running_monitor(write_config(tmp_path, webhook(f"{endpoint.url}/x")), [condition()]) as watched:

            def accepted() -> bool:
                (receiver,) = watched.status.receivers
                errors.append(receiver.error)
                return receiver.delivered_ns is not None

            wait_until(accepted, description="the message")
            assert watched.status.receivers[0].error is None
    assert len(endpoint.requests) == 3
    assert f"127.0.0.1 answered with status {status} (not accepted)." in errors


@pytest.mark.usefixtures("fast")
def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """It could lead to an address inside the network."""
    with otlp_http() as other, otlp_http() as endpoint:
        endpoint.respond = lambda _: Response(302, {"Location": f"{other.url}/elsewhere"})
        with running_monitor(write_config(tmp_path, webhook(f"{endpoint.url}/x")), [condition()]) as watched:
            wait_until(lambda: watched.status.receivers[0].error, description="an error")
            assert "302 (redirects are not followed)" in str(watched.status.receivers[0].error)
    assert endpoint.requests
    assert other.requests == []


@contextmanager
def slow_server(answer: bytes) -> Iterator[int]:
    """Run a server that sends one byte of an endless answer from time to time; yield its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(answer)
                while not stop.wait(0.05):
                    connection.sendall(b"x")
            except OSError:
                return

    def accept() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[connection], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        listener.close()


EMAIL = """interval = "1s"
[[receivers]]
name = "mail"
type = "email"
host = "127.0.0.1"
port = {port}
tls = "none"
sender = "hub@example.org"
to = ["a@example.org"]
"""


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("answer", "text", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", webhook("http://127.0.0.1:{port}/x"), "127.0.0.1 did not answer within 0.5 s."),
        (b"220 ", EMAIL, "127.0.0.1 did not accept the e-mail (SMTPServerDisconnected)."),
        (b"", EMAIL, "127.0.0.1 did not accept the e-mail (SMTPServerDisconnected)."),
    ],
)
def test_a_receiver_that_answers_slowly_is_given_up(tmp_path: Path, answer: bytes, text: str, message: str) -> None:
    """Although each single read succeeds; another receiver gets its messages meanwhile, and the monitor can end."""
    with slow_server(answer) as port, otlp_http() as endpoint:
        content = text.replace("{port}", str(port))
        content += f'\n[[receivers]]\nname = "other"\ntype = "webhook"\nurl = "{endpoint.url}/x"\n'
        with running_monitor(write_config(tmp_path, content), [condition()]) as watched:
            wait_until(lambda: watched.status.receivers[0].error, description="an error")
            assert watched.status.receivers[0].error == message
            wait_until(lambda: endpoint.accepted, description="the other message")


@pytest.mark.usefixtures("fast")
def test_certificates_are_checked(tmp_path: Path) -> None:
    """A certificate of an unknown authority is refused, and one of `ca_file` is accepted."""
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with otlp_http(tls=context) as endpoint:
        with running_monitor(write_config(tmp_path, webhook(f"{endpoint.url}/x")), [condition()]) as watched:
            wait_until(lambda: watched.status.receivers[0].error, description="an error")
            assert watched.status.receivers[0].error == "127.0.0.1 could not be reached (ConnectError)."
        path = write_config(tmp_path, webhook(f"{endpoint.url}/x", ca_file=str(certificate)))
        with running_monitor(path, [condition()]):
            wait_until(lambda: endpoint.accepted, description="the message")


@pytest.mark.usefixtures("fast")
def test_secrets_are_neither_logged_nor_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also if the receiver cannot be reached, and at the level INFO of the hub."""
    caplog.set_level(logging.INFO, logger="modeltrace_hub")
    url = f"http://127.0.0.1:{free_port()}/{SECRET}"
    with running_monitor(write_config(tmp_path, slack(), slack_url=url), [condition()]) as watched:
        wait_until(lambda: watched.status.receivers[0].error, description="an error")
        shown = repr(watched.status)
    assert "gets no messages" in caplog.text
    assert SECRET not in caplog.text + shown


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("content", [None, b"{", b"[1]", b'[{"condition": {}}]', b'{"a": 1}', b"\xff"])
def test_a_file_of_states_that_cannot_be_read_is_replaced(tmp_path: Path, content: bytes | None) -> None:
    """Its alerts are sent again."""
    state_path = tmp_path / "alerts.json"
    if content is not None:
        state_path.write_bytes(content)
    with otlp_http() as endpoint:
        path = write_config(tmp_path, webhook(f"{endpoint.url}/x"))
        for _ in range(2):
            with running_monitor(path, [condition()], state_path) as watched:
                wait_until(lambda watched=watched: watched.status.evaluated_ns, description="an evaluation")
                wait_until(lambda: endpoint.accepted, description="the message")
                wait_until(lambda: b'"hook"' in state_path.read_bytes(), description="the file")
        assert len(endpoint.accepted) == 1


def test_a_failed_evaluation_changes_no_state(tmp_path: Path) -> None:
    """The next one tries again."""
    failures = iter([None, StoreError("The database has failed."), None])

    def evaluate(_now: int) -> list[Condition]:
        if failure := next(failures):
            raise failure
        return [condition()]

    async def run() -> list[tuple[str | None, list[str]]]:
        watched = AlertMonitor(read_alert_config(write_config(tmp_path, "")), evaluate, "http://h", None)
        seen = []
        for _ in range(3):
            await watched._evaluate_once()
            seen.append((watched.status.error, [alert.state for alert in watched.status.alerts]))
        return seen

    assert asyncio.run(run()) == [
        (None, ["firing"]),
        ("The database has failed.", ["firing"]),
        (None, ["firing"]),
    ]
