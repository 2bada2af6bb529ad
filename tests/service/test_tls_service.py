"""The service over TLS, and errors in its TLS settings."""

import ssl
from pathlib import Path

import httpx
import pytest

from modeltrace import Client
from modeltrace.errors import SettingsError
from modeltrace.settings import read_settings
from tests.helpers.certificates import self_signed
from tests.helpers.processes import free_port, running, wait_until
from tests.helpers.services import run_modeltrace

pytestmark = pytest.mark.slow
QUIET = {"OTEL_SDK_DISABLED": "true", "MODELTRACE_STORE": "none"}


def test_predictions_over_tls(example: Path, rows: list[dict[str, float]], tmp_path: Path) -> None:
    """The client verifies the certificate, and the log has the address with https."""
    certificate, key = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=certificate)
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    arguments = ["modeltrace", "serve", str(example), "--port", str(port)]
    arguments += ["--tls-certificate", str(certificate), "--tls-key", str(key)]

    def is_ready() -> bool:
        try:
            return httpx.get(f"{url}/readyz", verify=trusting).status_code == 200
        except httpx.TransportError:
            return False

    with running(arguments, env=QUIET) as process:
        wait_until(is_ready, description=f"the service at {url}")
        with Client(url, verify=trusting) as client:
            label = client.predict(rows[0]).label
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/readyz")
        log = process.log

    assert label in ("benign", "malignant")
    assert f"at {url}" in log


def test_settings_that_cannot_be_used(example: Path, tmp_path: Path) -> None:
    """The error names the setting, and the service does not start."""
    certificate, key = self_signed(tmp_path)
    for settings, message in (
        ({"tls_key": key}, "MODELTRACE_TLS_KEY needs MODELTRACE_TLS_CERTIFICATE"),
        ({"tls_client_ca": certificate}, "MODELTRACE_TLS_CLIENT_CA needs MODELTRACE_TLS_CERTIFICATE"),
        ({"tls_certificate": key, "tls_key": key}, r"must contain a certificate.*\(MODELTRACE_TLS_CERTIFICATE"),
    ):
        with pytest.raises(SettingsError, match=message):
            read_settings(**settings).check_tls(SettingsError)
    read_settings(tls_certificate=certificate, tls_key=key).check_tls(SettingsError)

    done = run_modeltrace("serve", str(example), "--tls-certificate", str(tmp_path / "missing.pem"), **QUIET)
    assert done.returncode == 1
    assert "missing.pem cannot be read: No such file or directory (MODELTRACE_TLS_CERTIFICATE" in done.stderr
    for prefix in ("MODELTRACE", "MODELTRACE_HUB"):
        files = {f"{prefix}_TLS_CERTIFICATE": str(certificate), f"{prefix}_TLS_CLIENT_CA": str(certificate)}
        done = run_modeltrace("up", str(example), **files, **QUIET)
        assert done.returncode == 1
        assert f"`up` has no client certificate to call its service and its hub: unset {prefix}_TLS_C" in done.stderr


def test_a_file_of_cas_that_cannot_be_used(tmp_path: Path) -> None:
    """Each command with --ca names the file and the reason, before it sends anything."""
    (tmp_path / "ca.pem").write_text("no certificate")
    for file, reason in (("ca.pem", "must contain certificates in PEM format"), ("missing.pem", "cannot be read: No")):
        for command in ("traffic", "doctor"):
            done = run_modeltrace(command, "https://127.0.0.1:9", "--ca", str(tmp_path / file), **QUIET)
            assert done.returncode == 1
            assert f"--ca {tmp_path / file} {reason}" in done.stderr
