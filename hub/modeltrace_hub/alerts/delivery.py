"""Send a message to a receiver, within a deadline. Redirects are not followed, and no body of a response is read."""

import asyncio
import smtplib
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from email.message import EmailMessage
from typing import Final
from urllib.parse import urlsplit

import httpx

from modeltrace_hub.alerts.config import EmailReceiver, HttpReceiver, Receiver, read_secret
from modeltrace_hub.alerts.messages import email_message, slack_body, webhook_body
from modeltrace_hub.alerts.states import Alert
from modeltrace_hub.errors import HubError

SEND_SECONDS: Final = 10.0


class DeliveryError(HubError):
    """A receiver did not accept a message. The text contains no secret."""


async def send(receiver: Receiver, alerts: Sequence[Alert], hub_url: str) -> None:
    """Send one message about some alerts.

    Raises:
        DeliveryError: the receiver did not accept it within `SEND_SECONDS`.
        SettingsError: a secret cannot be read.
    """
    if isinstance(receiver, EmailReceiver):
        message = email_message(receiver.sender, receiver.to, alerts, hub_url)
        await _run_in_thread(lambda: _send_email(receiver, message))
    else:
        await _post(receiver, alerts, hub_url)


async def _post(receiver: HttpReceiver, alerts: Sequence[Alert], hub_url: str) -> None:
    url = receiver.read_url()
    headers = {"Content-Type": "application/json", "User-Agent": "modeltrace-hub"}
    if receiver.authorization_file is not None:
        headers["Authorization"] = read_secret(receiver.authorization_file)
    body = slack_body(alerts, hub_url) if receiver.type == "slack" else webhook_body(receiver.name, alerts, hub_url)
    host = urlsplit(url).hostname
    try:
        async with (
            asyncio.timeout(SEND_SECONDS),
            httpx.AsyncClient(verify=receiver.tls_context(), trust_env=False, timeout=SEND_SECONDS) as client,
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            status = response.status_code
    except TimeoutError:
        raise DeliveryError(f"{host} did not answer within {SEND_SECONDS:g} s.") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        # Its text may contain the address, which is a secret.
        raise DeliveryError(f"{host} could not be reached ({type(error).__name__}).") from None
    if not 200 <= status < 300:
        reason = "redirects are not followed" if 300 <= status < 400 else "not accepted"
        raise DeliveryError(f"{host} answered with status {status} ({reason}).")


def _send_email(receiver: EmailReceiver, message: EmailMessage) -> None:
    password = None if receiver.password_file is None else read_secret(receiver.password_file)
    context = receiver.tls_context()
    client = (
        smtplib.SMTP_SSL(timeout=SEND_SECONDS, context=context)
        if receiver.tls == "tls"
        else smtplib.SMTP(timeout=SEND_SECONDS)
    )
    # A timeout of the socket applies to each of its operations, so a slow server could use any time.
    deadline = threading.Timer(SEND_SECONDS, _shut_down, [client])
    deadline.daemon = True
    deadline.start()
    try:
        client._host = receiver.host  # type: ignore[attr-defined]  # noqa: SLF001  the name that TLS verifies; `connect` does not set it
        client.connect(receiver.host, receiver.port)
        if receiver.tls == "starttls":
            client.starttls(context=context)
        if receiver.username is not None and password is not None:
            client.login(receiver.username, password)
        client.send_message(message)
        with suppress(smtplib.SMTPException, OSError):
            client.quit()
    except (smtplib.SMTPException, OSError, ValueError) as error:
        # Answers of the server may repeat the credentials.
        code = getattr(error, "smtp_code", None)
        detail = type(error).__name__ if code is None else f"{type(error).__name__}, code {code}"
        raise DeliveryError(f"{receiver.host} did not accept the e-mail ({detail}).") from None
    finally:
        deadline.cancel()
        client.close()


def _shut_down(client: smtplib.SMTP) -> None:
    connection = client.sock
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


async def _run_in_thread(function: Callable[[], None]) -> None:
    """Run a function in a daemon thread, so that the hub can end while a mail server is slow."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if not done.done():
            done.set_result(None) if error is None else done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            function()
        except BaseException as raised:  # noqa: BLE001  raised in the event loop
            error = raised
        with suppress(RuntimeError):  # the loop is closed: the hub has ended
            loop.call_soon_threadsafe(finish, error)

    threading.Thread(target=run, daemon=True, name="alert-email").start()
    await done
