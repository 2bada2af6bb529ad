"""Connections that are opened at the same time are all served, before any of them is served many times."""

import json
import signal
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.processes import wait_until
from tests.helpers.services import running_service

CONNECTIONS, REQUESTS = 64, 20


@pytest.mark.slow
@pytest.mark.extended
def test_connections_that_come_at_once_are_accepted_before_some_are_answered_often(
    bundle: Path, rows: list[dict[str, float]]
) -> None:
    """Of 64 waiting connections with 20 requests each, none has ten answers before each of the others has one."""
    body = json.dumps({"features": rows[0]}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with running_service(bundle, "http://127.0.0.1:9") as (process, url), ExitStack() as stack:
        port = int(url.rpartition(":")[2])
        process.popen.send_signal(signal.SIGSTOP)
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(CONNECTIONS)]
        client_ports = {client.getsockname()[1] for client in clients}
        for client in clients:
            client.sendall((head.encode() + body) * REQUESTS)
        process.popen.send_signal(signal.SIGCONT)

        def all_answered() -> list[int] | None:
            lines = [json.loads(line)["message"] for line in process.log.splitlines() if "POST /predict" in line]
            ports = [int(line.split(" ")[0].rpartition(":")[2]) for line in lines]
            return ports if len(ports) == CONNECTIONS * REQUESTS else None

        answered = wait_until(all_answered, description="all answers")
        assert set(answered) == client_ports
        last = max(answered.index(port) for port in client_ports)
        assert max(Counter(answered[:last]).values()) < REQUESTS / 2
