"""TLS of the HTTP server: versions, client certificates, reload, and errors in files."""

import asyncio
import logging
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from modeltrace_http import tls
from modeltrace_http.tls import TlsError, TlsFiles, create_context
from tests.helpers.certificates import self_signed
from tests.helpers.http_servers import RunningServer, changed_limits, running_server

pytestmark = pytest.mark.slow
LOOPS: dict[str, Callable[[], Any]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def make_files(folder: Path) -> TlsFiles:
    """Create a certificate and its key in a new folder."""
    folder.mkdir()
    return TlsFiles(*self_signed(folder))


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """The certificate and the key of the server."""
    return make_files(tmp_path / "server")


@pytest.fixture(params=LOOPS)
def server(request: pytest.FixtureRequest, files: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    """A server with TLS that checks its files at each connection, with each event loop."""
    monkeypatch.setattr(tls, "CHECK_INTERVAL", 0.0)
    with running_server(loop=LOOPS[request.param], tls=files) as server:
        yield server


def trusting(files: TlsFiles) -> ssl.SSLContext:
    """Return a client's context that trusts a certificate."""
    return ssl.create_default_context(cafile=files.certificate)


def served_certificate(server: RunningServer, context: ssl.SSLContext) -> bytes:
    """Return the certificate of a new connection, in DER format."""
    with server.connect() as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def test_requests_over_tls(server: RunningServer, files: TlsFiles) -> None:
    """Small and large bodies are answered, on one connection; the scheme is https."""
    with httpx.Client(base_url=f"https://127.0.0.1:{server.port}", verify=trusting(files)) as client:
        for size in (0, 10, 2**22):
            assert client.post("/", content=bytes(size)).text == str(size)
        assert len(client.get("/large").content) == 2**24

    assert {scope["scheme"] for scope, _ in server.requests} == {"https"}
    assert len({scope["client"] for scope, _ in server.requests}) == 1


def test_other_clients_do_not_disturb_the_server(server: RunningServer, files: TlsFiles) -> None:
    """Plain HTTP, garbage, an untrusting client and one that says nothing end without an answer in plain text."""
    silent = server.connect()
    for packet in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\xff\xff", b"\x00"):
        with server.connect() as connection:
            connection.sendall(packet)
            connection.shutdown(socket.SHUT_WR)
            assert b"HTTP" not in b"".join(iter(lambda: _receive(connection), b""))
    with pytest.raises(ssl.SSLCertVerificationError):
        served_certificate(server, ssl.create_default_context())

    url = f"https://127.0.0.1:{server.port}"
    assert httpx.post(url, content=b"abc", verify=trusting(files)).text == "3"
    silent.close()


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def test_a_handshake_has_the_time_of_the_headers(files: TlsFiles) -> None:
    """A client that sends nothing is disconnected after the header timeout, and its connection is free again."""
    with running_server(changed_limits(header_timeout=0.5, max_connections=1), tls=files) as server:
        with server.connect() as connection:
            assert _receive(connection) == b""
        assert httpx.get(f"https://127.0.0.1:{server.port}", verify=trusting(files), timeout=20).text == "0"


def test_old_versions_of_tls_are_rejected(server: RunningServer, files: TlsFiles) -> None:
    """TLS 1.2 and 1.3 are accepted."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting(files)
        context.minimum_version = context.maximum_version = version
        assert served_certificate(server, context)
    assert create_context(files).minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_new_certificate_is_used_for_new_connections(
    server: RunningServer, files: TlsFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Open connections continue. While the new files are incomplete, the certificate stays as it was."""
    caplog.set_level(logging.INFO, "modeltrace_http.tls")
    new = make_files(tmp_path / "new")
    both = ssl.create_default_context(cafile=files.certificate)
    both.load_verify_locations(new.certificate)
    before = served_certificate(server, both)
    assert files.key is not None
    assert new.key is not None
    with httpx.Client(base_url=f"https://127.0.0.1:{server.port}", verify=both) as client:
        assert client.post("/", content=b"a").text == "1"

        shutil.copy(new.certificate, files.certificate)  # without its key
        assert served_certificate(server, both) == before
        assert "does not belong to the certificate" in caplog.text
        shutil.copy(new.key, files.key)
        after = served_certificate(server, both)
        files.key.unlink()
        assert served_certificate(server, both) == after
        assert client.post("/", content=b"ab").text == "2"

    assert after != before
    assert ssl.DER_cert_to_PEM_cert(after).strip() in new.certificate.read_text()
    assert len({scope["client"] for scope, _ in server.requests}) == 1


def test_client_certificates(tmp_path: Path, files: TlsFiles) -> None:
    """With a client CA, clients without a certificate, or with another one, are rejected in the handshake."""
    known, unknown = make_files(tmp_path / "known"), make_files(tmp_path / "unknown")
    with running_server(tls=files._replace(client_ca=known.certificate)) as server:
        url = f"https://127.0.0.1:{server.port}"

        def post(client: TlsFiles | None) -> str:
            context = trusting(files)
            if client is not None:
                context.load_cert_chain(client.certificate, client.key)
            return httpx.post(url, content=b"abc", verify=context).text

        assert post(known) == "3"
        for client in (None, unknown):
            with pytest.raises(httpx.TransportError):
                post(client)
        assert len(server.requests) == 1


def test_the_key_may_be_in_the_file_of_the_certificate(files: TlsFiles) -> None:
    """A file with certificate and key, as some tools write it, is accepted."""
    assert files.key is not None
    with files.certificate.open("a") as file:
        file.write(files.key.read_text())

    create_context(TlsFiles(files.certificate))


def test_files_that_cannot_be_used(tmp_path: Path, files: TlsFiles) -> None:
    """The message names the file and says what it should be."""
    other = make_files(tmp_path / "other")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("nothing")
    encrypted = tmp_path / "encrypted.pem"
    command = ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", str(files.key), "-out", str(encrypted)]
    subprocess.run(command, check=True, capture_output=True)
    for changed, message in (
        (files._replace(certificate=tmp_path / "missing.pem"), "missing.pem cannot be read: No such file"),
        (files._replace(key=tmp_path), "cannot be read: Is a directory"),
        (files._replace(certificate=garbage), "garbage.pem must contain a certificate in PEM format"),
        (files._replace(key=garbage), "garbage.pem its private key"),
        (files._replace(key=None), "certificate.pem must contain a certificate in PEM format, and .* its private key"),
        (files._replace(key=other.key), "other/key.pem does not belong to the certificate in .*server/certificate.pem"),
        (files._replace(key=encrypted), "encrypted.pem is encrypted: store it without a password"),
        (files._replace(client_ca=garbage), "garbage.pem must contain certificates in PEM format"),
    ):
        with pytest.raises(TlsError, match=message):
            create_context(changed)
