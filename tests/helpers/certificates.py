"""Self-signed certificates for endpoints on loopback."""

import shutil
import subprocess
from pathlib import Path

import pytest


def self_signed(folder: Path, host: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """Create a certificate for `IP:address` or `DNS:name` and its key; skip without openssl."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    files = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=modeltrace test", "-addext", f"subjectAltName={host}", "-days", "2"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    output = ["-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(["openssl", "req", "-x509", *curve, "-nodes", *subject, *output], check=True, capture_output=True)
    return files
