"""TLS of a gRPC server: reload, client certificates, and errors in files."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from modeltrace_http import tls
from modeltrace_http.grpc_tls import bind_port
from modeltrace_http.tls import TlsError, TlsFiles
from tests.helpers.certificates import self_signed

pytestmark = pytest.mark.slow


def make_files(folder: Path) -> TlsFiles:
    """Create a certificate and its key in a new folder."""
    folder.mkdir()
    return TlsFiles(*self_signed(folder))


@asynccontextmanager
async def running_server(files: TlsFiles) -> AsyncIterator[int]:
    """Run a server with the health service, and yield its port."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = bind_port(server, "127.0.0.1:0", files)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def check(port: int, trusted: TlsFiles, own: TlsFiles | None = None) -> int:
    """Call the health service over a new connection, and return its answer."""
    key = own.key.read_bytes() if own and own.key else None
    certificate = own.certificate.read_bytes() if own else None
    credentials = grpc.ssl_channel_credentials(trusted.certificate.read_bytes(), key, certificate)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
    return int(answer.status)


def test_a_new_certificate_is_used_for_new_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While the new files are incomplete, the certificate stays as it was."""
    monkeypatch.setattr(tls, "CHECK_INTERVAL", 0.0)
    files, new = make_files(tmp_path / "server"), make_files(tmp_path / "new")
    assert files.key
    assert new.key
    old = TlsFiles(Path(shutil.copy(files.certificate, tmp_path / "old.pem")))

    async def run() -> None:
        async with running_server(files) as port:
            assert await check(port, old) == health_pb2.HealthCheckResponse.SERVING
            shutil.copy(new.certificate, files.certificate)  # without its key
            assert await check(port, old) == health_pb2.HealthCheckResponse.SERVING
            assert "does not belong to the certificate" in caplog.text
            shutil.copy(new.key, files.key)
            assert await check(port, new) == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await check(port, old)

    asyncio.run(run())


def test_clients_need_a_certificate_of_the_client_ca(tmp_path: Path) -> None:
    """Without one, and with one of another CA, the connection fails."""
    files, client, other = (make_files(tmp_path / name) for name in ("server", "client", "other"))

    async def run() -> None:
        async with running_server(files._replace(client_ca=client.certificate)) as port:
            assert await check(port, files, client) == health_pb2.HealthCheckResponse.SERVING
            for own in (None, other):
                with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                    await check(port, files, own)

    asyncio.run(run())


def test_key_and_certificate_may_be_in_one_file(tmp_path: Path) -> None:
    """A file with both is accepted; a client without TLS is rejected."""
    files = make_files(tmp_path / "server")
    assert files.key
    both = tmp_path / "both.pem"
    both.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())

    async def run() -> None:
        async with running_server(TlsFiles(both)) as port:
            assert await check(port, files) == health_pb2.HealthCheckResponse.SERVING
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                    await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)

    asyncio.run(run())


@pytest.mark.parametrize("content", [None, b"", b"no PEM"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    """The error names the file, and is raised before the server listens."""
    files = make_files(tmp_path / "server")
    if content is None:
        files.certificate.unlink()
    else:
        files.certificate.write_bytes(content)

    async def run() -> None:
        with pytest.raises(TlsError, match=r"certificate\.pem"):
            bind_port(grpc.aio.server(), "127.0.0.1:0", files)

    asyncio.run(run())
