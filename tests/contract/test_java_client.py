"""Service and hub answer Java's HTTP client, which offers HTTP/2 with the first request of each connection."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

from tests.helpers.services import running_service_and_hub

TRACE_ID: Final = "5b8efff798038103d269b633813fc60c"

pytestmark = [pytest.mark.slow, pytest.mark.extended]

# Prints the status of each response. The second publisher does not know the length of the body, so it is chunked.
CLIENT: Final = """
import java.net.URI;
import java.net.http.*;
import java.nio.file.*;

public class Client {
    public static void main(String[] arguments) throws Exception {
        for (int index = 0; index < arguments.length; index += 2) {
            URI uri = URI.create(arguments[index]);
            byte[] body = Files.readAllBytes(Path.of(arguments[index + 1]));
            for (var publisher : new HttpRequest.BodyPublisher[] {
                    HttpRequest.BodyPublishers.ofByteArray(body),
                    HttpRequest.BodyPublishers.ofInputStream(() -> new java.io.ByteArrayInputStream(body))}) {
                HttpRequest request = HttpRequest.newBuilder(uri)
                    .header("Content-Type", "application/json").POST(publisher).build();
                HttpClient client = HttpClient.newHttpClient();
                for (int repeated = 0; repeated < 2; repeated++) {
                    var answer = client.send(request, HttpResponse.BodyHandlers.ofString());
                    System.out.println(answer.statusCode() + " " + answer.version());
                }
            }
        }
    }
}
"""


def _has_http_client() -> bool:
    """Return whether there is a Java that runs source files and has `java.net.http`: version 11 or newer."""
    if not shutil.which("java"):
        return False
    listed = subprocess.run(["java", "--list-modules"], capture_output=True, text=True, check=False).stdout
    return "java.net.http" in listed and "jdk.compiler" in listed


@pytest.mark.skipif(not _has_http_client(), reason="no Java 11 or newer with its compiler on PATH")
def test_requests_of_java_are_answered(bundle: Path, rows: list[dict[str, float]], tmp_path: Path) -> None:
    """Predictions are answered and spans are stored, with a length or chunked, on new and on reused connections."""
    now = str(time.time_ns())
    spans = [
        {
            "traceId": TRACE_ID,
            "spanId": "eee19b7ec3c1b174",
            "name": "x",
            "startTimeUnixNano": now,
            "endTimeUnixNano": now,
        }
    ]
    (tmp_path / "Client.java").write_text(CLIENT)
    (tmp_path / "predict.json").write_text(json.dumps({"features": rows[0]}))
    (tmp_path / "large.json").write_text(json.dumps({"rows": [rows[0]] * 500}))
    (tmp_path / "spans.json").write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}))
    with running_service_and_hub(bundle) as stack:
        calls = [
            f"{stack.service.url}/predict", "predict.json",
            f"{stack.service.url}/predict/batch", "large.json",
            f"{stack.hub.otlp_url}/v1/traces", "spans.json",
        ]  # fmt: skip
        done = subprocess.run(
            ["java", "Client.java", *calls], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240
        )
        assert done.stdout.splitlines() == ["200 HTTP_1_1"] * 12, done.stderr
        assert [span["name"] for span in stack.hub.trace(TRACE_ID)["spans"]][:1] == ["x"]
