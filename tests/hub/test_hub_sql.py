"""SQL queries of users: what they read, what they cannot do, their limits, formats and page."""

import io
import re
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import psutil
import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from modeltrace_hub.errors import InvalidQueryError, QueryTimeoutError
from modeltrace_hub.sql_query.analysis import find_equalities
from modeltrace_hub.sql_query.runner import Cancellation, SqlRunner
from modeltrace_hub.store import MAX_READERS, Store
from modeltrace_hub.web.sql_pages import EXAMPLES
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import attribute, log_request, span, trace_request

# The queries run in a process of their own.
pytestmark = pytest.mark.slow

SECOND = 10**9
START = 1_700_000_000 * SECOND
TRACE_ID = "ab" * 16


@pytest.fixture(scope="module")
def hub() -> Iterator[InProcessHub]:
    """Yield a hub with three spans of one trace, of 100, 200 and 300 ms, and a log record."""
    with in_process_hub(sql_timeout=timedelta(minutes=2)) as hub:
        spans = [
            span(
                trace_id=bytes.fromhex(TRACE_ID),
                name=f"step {number}",
                kind=Span.SPAN_KIND_SERVER,
                start_time_unix_nano=START + number * SECOND,
                end_time_unix_nano=START + number * SECOND + number * 100_000_000,
                attributes=[attribute("http.route", f"/{number}")],
            )
            for number in (1, 2, 3)
        ]
        record = LogRecord(time_unix_nano=START, trace_id=bytes.fromhex(TRACE_ID), body=AnyValue(string_value='a,"b\n'))
        headers = {"Content-Type": "application/x-protobuf"}
        for path, request in (("traces", trace_request(*spans)), ("logs", log_request(record))):
            hub.client.post(f"/v1/{path}", content=request.SerializeToString(), headers=headers).raise_for_status()
        yield hub


def query(hub: InProcessHub, sql: str, **parameters: object) -> httpx.Response:
    """Call the API."""
    return httpx.get(f"{hub.page_url}/api/sql", params={"q": sql, **parameters}, timeout=120)  # type: ignore[dict-item]  # httpx converts them


def rows(hub: InProcessHub, sql: str, **parameters: object) -> list[list[Any]]:
    """Return the rows of a query."""
    response = query(hub, sql, **parameters)
    assert response.status_code == 200, response.text
    returned: list[list[Any]] = response.json()["rows"]
    return returned


def test_a_query_reads_the_views(hub: InProcessHub) -> None:
    """Durations, times, attributes, joins and aggregates have the values that were sent."""
    assert rows(hub, "SELECT name, duration_ms, attributes ->> 'http.route' FROM spans ORDER BY name") == [
        ["step 1", 100.0, "/1"],
        ["step 2", 200.0, "/2"],
        ["step 3", 300.0, "/3"],
    ]
    assert rows(hub, "SELECT sum(time_ns) - 3 * 1700000000000000000 FROM spans") == [[6 * SECOND]]
    assert rows(hub, "SELECT min(time) FROM Spans") == [["2023-11-14T22:13:21Z"]]
    assert rows(hub, "SELECT l.body, t.span_count FROM logs l JOIN traces t USING (trace_id)") == [['a,"b\n', 3]]
    assert rows(hub, "FROM spans SELECT count(*)", since="1700000002", until="1700000002.5") == [[1]]


def test_columns_that_are_not_named_are_read(hub: InProcessHub) -> None:
    """A star, a natural join, a whole row, COLUMNS and USING see all columns of a view."""
    assert len(rows(hub, "SELECT * FROM spans")[0]) == 17
    assert rows(hub, "SELECT s.s.name FROM (SELECT s FROM spans s) s ORDER BY 1 LIMIT 1") == [["step 1"]]
    assert rows(hub, "SELECT count(*) FROM logs NATURAL JOIN (SELECT trace_id FROM traces)") == [[1]]
    assert rows(hub, "SELECT COLUMNS('^na') FROM spans ORDER BY 1 LIMIT 1") == [["step 1"]]
    assert rows(hub, "WITH spans AS (SELECT 7 AS x) SELECT x FROM spans") == [[7]]


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('/etc/passwd')",
        "FROM read_csv('/etc/passwd')",
        "FROM '/etc/passwd'",
        "FROM glob('/*')",
        "FROM read_blob('{file}')",
        "FROM parquet_scan('{file}')",
        "SELECT * FROM query('FROM read_text(''/etc/passwd'')')",
        "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))",
        "COPY (SELECT 1) TO '{file}'",
        "ATTACH '{file}'",
        "EXPORT DATABASE '{file}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SET enable_external_access = true",
        "CREATE TABLE t (a INTEGER)",
        "INSERT INTO spans VALUES (1)",
        "DELETE FROM spans",
        "DROP VIEW spans",
        "CALL pragma_version()",
        "CHECKPOINT",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY (SELECT 1) TO '{file}'",
        "SELECT * FROM pandas_scan(1)",
        "SELECT * FROM os",
        "SELECT * FROM main.resources",
        "SELECT getenv('HOME')",
    ],
)
def test_only_views_can_be_read(hub: InProcessHub, tmp_path: Path, sql: str) -> None:
    """Files, settings, other statements and Python variables are out of reach, and the answer is a clear error."""
    file = tmp_path / "file"
    response = query(hub, sql.replace("{file}", str(file)))

    assert response.status_code == 422
    assert response.json()["error"]["type"] == "invalid_query"
    assert response.json()["error"]["message"]
    assert not file.exists()
    assert "root:" not in response.text


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT length(repeat('x', 3000000000))",
        "SELECT length(lpad('x', 4000000000, 'y'))",
        "SELECT range(1000000000)",
        "SELECT list(i) FROM range(1000000000) t(i)",
        "WITH RECURSIVE a(n) AS (SELECT 'x' UNION ALL SELECT n || n FROM a) SELECT max(length(n)) FROM a",
        "SELECT printf('%1000000000d', 1)",
    ],
)
@pytest.mark.slow
def test_a_query_that_needs_too_much_memory_ends(hub: InProcessHub, sql: str) -> None:
    """It ends with an error. The memory of the hub does not grow, and the next query works."""
    before = psutil.Process().memory_info().rss

    response = query(hub, sql)

    assert response.status_code in {422, 503}
    assert response.json()["error"]["type"] in {"invalid_query", "timeout"}
    assert psutil.Process().memory_info().rss - before < 100 * 2**20
    assert rows(hub, "SELECT 1") == [[1]]


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) SELECT count(*) FROM a",
        "SELECT count(*) FROM range(10000000) a, range(10000000) b",
        "SELECT sleep_ms(60000)",
    ],
)
def test_a_query_that_takes_too_long_ends(store: Store, sql: str) -> None:
    """After the time limit, the process of the query is ended."""
    runner = SqlRunner(store, timeout=1.5)

    with pytest.raises(QueryTimeoutError, match=r"over 1\.5 s"):
        runner.run(sql)

    assert not [child for child in psutil.Process().children() if "sql_query" in " ".join(child.cmdline())]


def test_a_query_can_be_cancelled(store: Store) -> None:
    """Another thread cancels it, before or while it runs."""
    runner = SqlRunner(store, timeout=60)
    cancellation = Cancellation()
    threading.Timer(1, cancellation.cancel).start()

    with pytest.raises(QueryTimeoutError, match="cancelled"):
        runner.run("SELECT count(*) FROM range(10000000) a, range(10000000) b", cancellation=cancellation)
    with pytest.raises(QueryTimeoutError, match="cancelled"):
        runner.run("SELECT 1", cancellation=cancellation)


def is_running_query(process: psutil.Process) -> bool:
    """Return whether a process runs a query. One that has just ended may still be a zombie."""
    try:
        return "sql_query" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_a_query_ends_when_the_client_disconnects(hub: InProcessHub) -> None:
    """Its process ends soon after, not at the time limit."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{hub.page_url}/api/sql", params={"q": "SELECT sleep_ms(60000)"}, timeout=1.5)
    deadline = time.monotonic() + 60  # below the time limit of the query

    while any(map(is_running_query, psutil.Process().children())):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    "sql", ["(" * 3000 + "1" + ")" * 3000, "1" + "+1" * 3000, "[" * 900 + "]" * 900], ids=("parentheses", "sum", "list")
)
def test_deeply_nested_queries_are_rejected(hub: InProcessHub, sql: str) -> None:
    """The parser's limits end in an error."""
    assert query(hub, f"SELECT {sql}").status_code == 422


def test_errors_say_what_to_do(hub: InProcessHub) -> None:
    """Unknown tables name the views, and a syntax error has a position."""
    assert "The views are exemplars, labels, logs" in query(hub, "SELECT * FROM span").json()["error"]["message"]
    assert 'syntax error at or near "SELEC" (character 1)' in query(hub, "SELEC 1").json()["error"]["message"]
    assert "read-only" in query(hub, "DROP TABLE spans").json()["error"]["message"]
    assert query(hub, "x" * 9000).json()["error"]["parameter"] == "q"
    assert query(hub, "SELECT 1", since="yesterday").json()["error"]["parameter"] == "since"


def test_unexpected_errors_are_answered(hub: InProcessHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the hub's code in the process, or while the result is encoded, is a 422 that names it."""
    monkeypatch.setattr("modeltrace_hub.sql_query.runner.MAX_RESULT_BYTES", "many")
    for answer in (query(hub, "SELECT 1"), page(hub, q="SELECT 1")):
        assert answer.status_code == 422
        assert "TypeError" in answer.text
    monkeypatch.undo()

    def fail(_: object) -> None:
        raise OverflowError

    for name in ("sql_query.results.encode_value", "web.sql_chart.encode_value"):
        monkeypatch.setattr(f"modeltrace_hub.{name}", fail)
    for answer in (*(query(hub, "SELECT 1 a, 2 b", format=name) for name in ("json", "csv")), page(hub, q="SELECT 1")):
        assert answer.status_code == 422
        assert "OverflowError" in answer.text


def test_large_inputs_are_rejected(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows over the limit are not sent to the process."""
    monkeypatch.setattr("modeltrace_hub.sql_query.runner.MAX_INPUT_BYTES", -1)
    with store.write() as connection:
        connection.execute(
            "INSERT INTO logs SELECT 1, 1, NULL, NULL, NULL, 0, 0, '', '', 'text', false, '{}', 0, 's', 'i', 'r', 's'"
        )
        connection.execute("INSERT INTO resources VALUES ('r', '{}', 0, '[]', '')")
        connection.execute("INSERT INTO scopes VALUES ('s', '', '', '{}', 0, '')")

    runner = SqlRunner(store, timeout=120)

    for _ in range(MAX_READERS + 1):
        with pytest.raises(InvalidQueryError, match="Select fewer columns"):
            runner.run("SELECT body FROM logs")

    monkeypatch.undo()
    for _ in range(MAX_READERS + 1):  # every cursor can be used again
        assert runner.run("SELECT body FROM logs").table.num_rows == 1


@pytest.mark.parametrize(
    ("sql", "equal"),
    [
        (
            "SELECT * FROM spans WHERE trace_id = 'x' AND (Name = 'y' AND duration_ms > 3)",
            {"trace_id": "x", "name": "y"},
        ),
        ("SELECT s.name FROM spans s WHERE s.trace_id = 'x'", {"trace_id": "x"}),
        ("SELECT * FROM (SELECT * FROM spans WHERE name = 'y') t", {"name": "y"}),
        ("SELECT * FROM spans WHERE trace_id = 'x' OR name = 'y'", {}),
        ("SELECT * FROM spans WHERE NOT trace_id = 'x'", {}),
        ("SELECT * FROM spans WHERE duration_ms = '3'", {}),
        ("SELECT * FROM spans s(trace_id) WHERE trace_id = 'x'", None),
        ("SELECT * FROM spans TABLESAMPLE 10% WHERE trace_id = 'x'", None),
        ("SELECT * FROM spans WHERE trace_id = 'x' USING SAMPLE 5 ROWS", None),
        ("SELECT * FROM spans WHERE SPANS.name = 'x'", {"name": "x"}),
        ("SELECT * FROM spans s WHERE spans.name = 'x'", {}),
        ("SELECT * FROM spans WHERE attributes.name = 'x'", {}),
        ("SELECT (SELECT count(*) FROM spans WHERE t.name = 'x') FROM (SELECT 'x' AS name) t", {}),
        ("FROM (SELECT 'x' AS name) t WHERE EXISTS (FROM spans s WHERE t.name = 'x' AND s.name = 'y')", {"name": "y"}),
        ("SELECT * FROM spans WHERE trace_id = 'x' UNION ALL SELECT * FROM spans", None),
        ("SELECT count(*), (SELECT count(*) FROM spans) FROM spans WHERE trace_id = 'x'", None),
        ("SELECT * FROM spans a JOIN logs b USING (trace_id) WHERE a.trace_id = 'x'", None),
    ],
)
def test_equalities_reduce_the_rows(sql: str, equal: dict[str, str] | None) -> None:
    """Only conditions that all rows of a view must meet."""
    views = {"spans": {"trace_id": "VARCHAR", "name": "VARCHAR", "duration_ms": "DOUBLE"}}
    with duckdb.connect() as connection:
        assert find_equalities(connection, sql, views).get("spans") == equal


def test_equalities_do_not_change_results(hub: InProcessHub) -> None:
    """With one, with several, and with none that matches."""
    assert rows(hub, "SELECT count(*) FROM spans WHERE name = 'step 1'") == [[1]]
    assert rows(hub, f"SELECT count(*) FROM spans WHERE name = 'step 1' AND trace_id = '{TRACE_ID}'") == [[1]]  # noqa: S608  fixed
    assert rows(hub, "SELECT count(*) FROM spans WHERE name = 'it''s'") == [[0]]
    assert rows(hub, "SELECT count(*) FILTER (name = 'step 1') FROM spans WHERE service = 'svc'") == [[1]]
    assert rows(hub, "SELECT (SELECT count(*) FROM spans WHERE t.name = 'x') FROM (SELECT 'x' AS name) t") == [[3]]
    assert rows(hub, "SELECT 'x' AS name FROM spans WHERE name = 'step 1'") == [["x"]]


def test_results_are_cut(hub: InProcessHub) -> None:
    """At the limit of rows, and at the limit of bytes, the answer says that rows are missing."""
    cut = query(hub, "SELECT i FROM range(50) t(i) ORDER BY i DESC", limit=2).json()
    assert (cut["rows"], cut["truncated"]) == ([[49], [48]], True)
    exact = query(hub, "SELECT i FROM range(2) t(i)", limit=2).json()
    assert (exact["rows"], exact["truncated"]) == ([[0], [1]], False)
    large = query(hub, "SELECT repeat('x', 1000000) FROM range(100)", limit=1000).json()
    assert large["truncated"]
    assert 20 < len(large["rows"]) < 40


def test_values_of_all_types_are_encoded(hub: InProcessHub) -> None:
    """Values that JSON lacks are texts, in the order of the columns; equal names are possible."""
    answer = query(
        hub,
        "SELECT 1 AS a, 2 AS a, 'nan'::DOUBLE, '-inf'::DOUBLE, NULL, [1, 2], {'k': 1}, MAP {'k': 1}, "
        "1.5::DECIMAL(9, 2), 170141183460469231731687303715884105727::HUGEINT, "
        "DATE '2024-01-02', TIME '10:00', '\\xAA'::BLOB, true, "
        "TIMESTAMPTZ '2024-01-02 03:04:05+01:00'",
    ).json()

    assert [column["name"] for column in answer["columns"]][:2] == ["a", "a"]
    numbers = [1, 2, "NaN", "-Infinity", None, [1, 2], {"k": 1}, [["k", 1]], 1.5]
    texts = ["170141183460469231731687303715884105727", "2024-01-02", "10:00:00", "aa", True]
    assert answer["rows"] == [[*numbers, *texts, "2024-01-02T02:04:05+00:00"]]


@pytest.mark.parametrize(
    ("sql", "texts"),
    [
        ("INTERVAL '1 month 2 days 3 seconds'", "1 month 2 days 00:00:03"),
        ("[INTERVAL 1 DAY]; -- a comment; of \u00e4 query\n;", ["1 day"]),
        ("{'size': INTERVAL 1 DAY, 'n': 1}", {"size": "1 day", "n": 1}),
        ("MAP {'k': INTERVAL 1 DAY}", [["k", "1 day"]]),
        ("340282366920938463463374607431768211455::UHUGEINT", "340282366920938463463374607431768211455"),
        (f"{'9' * 50}::BIGNUM", "9" * 50),
        ("'0101'::BIT", "0101"),
        ("TIMETZ '10:00:00+02:00'", "10:00:00+02"),
        ("TIME_NS '10:00:00.123456789'", "10:00:00.123456789"),
        ("0.12345678901234567891::DECIMAL(38, 20)", "0.12345678901234567891"),
        ("0.1::DECIMAL(38, 20)", 0.1),
        ("'text'::UNION(number INTEGER, name VARCHAR)", "text"),
        ("'infinity'::TIMESTAMP", "infinity"),
        ("'-infinity'::DATE", "-infinity"),
        ("'-infinity'::TIMESTAMP_NS", "-infinity"),
        ("TIME '24:00:00'", "24:00:00"),
        ("TIME '23:59:59'", "23:59:59"),
        ("DATE '0044-03-15 (BC)'", "0044-03-15 (BC)"),
        ("['infinity'::TIMESTAMPTZ]", ["infinity"]),
        ("TIMESTAMP '290000-01-01'", "290000-01-01 00:00:00"),
    ],
)
def test_values_do_not_change(hub: InProcessHub, sql: str, texts: object) -> None:
    """A value that JSON and Python lack is the text of DuckDB, also inside lists, and Parquet has it too."""
    answer = query(hub, f"SELECT 1 AS a, {sql}").json()
    assert answer["rows"] == [[1, texts]]
    assert query(hub, f"SELECT 1 AS a, 2 AS a, {sql}", format="parquet").status_code == 200


def test_all_types_have_a_text(hub: InProcessHub) -> None:
    """In all formats and on the page, with their type in DuckDB."""
    sql = "SELECT * FROM test_all_types()"
    answer = query(hub, sql)
    assert answer.status_code == 200, answer.text
    assert {"name": "interval", "type": "INTERVAL"} in answer.json()["columns"]
    assert query(hub, sql, format="csv").status_code == 200
    assert query(hub, sql, format="parquet").status_code == 200
    assert page(hub, q=sql).status_code == 200


@pytest.mark.parametrize("sql", ["SELECT 1 USING SAMPLE 5 ROWS", "SELECT 1 FROM spans TABLESAMPLE 100%"])
def test_samples(hub: InProcessHub, sql: str) -> None:
    """A sample of all rows has all rows."""
    assert rows(hub, sql)[0] == [1]


def test_downloads(hub: InProcessHub) -> None:
    """CSV quotes fields, Parquet keeps types."""
    sql = "SELECT body, 1 AS n, NULL AS nothing, [1] AS list FROM logs"
    text = query(hub, sql, format="csv")
    assert text.text == 'body,n,nothing,list\r\n"a,""b\n",1,,[1]\r\n'
    assert text.headers["Content-Disposition"] == 'attachment; filename="query.csv"'
    table = pq.read_table(io.BytesIO(query(hub, "SELECT time, 1 AS n, 2 AS n FROM logs", format="parquet").content))
    assert table.column_names == ["time", "n", "n_3"]
    assert table.column("time").type.tz is None
    assert query(hub, "SELECT 1 FROM range(3)", format="csv", limit=1).headers["X-Truncated"] == "true"


def page(hub: InProcessHub, headers: dict[str, str] | None = None, **parameters: str) -> httpx.Response:
    """Request the page."""
    return httpx.get(f"{hub.page_url}/sql", params=parameters, headers=headers, timeout=120)


@pytest.mark.parametrize("title", EXAMPLES)
def test_examples_of_the_page_run(hub: InProcessHub, title: str) -> None:
    """Each has a result and no error."""
    response = page(hub, q=EXAMPLES[title])
    assert response.status_code == 200
    assert "problem" not in response.text
    assert 'aria-label="Result"' in response.text


def test_the_page_shows_table_chart_and_errors(hub: InProcessHub) -> None:
    """Trace IDs are links, names become bars, times become lines, and text of telemetry is escaped."""
    assert f'href="./t/{TRACE_ID}"' in page(hub, q="SELECT trace_id FROM traces").text
    bars = page(hub, q="SELECT name, duration_ms FROM spans ORDER BY name").text
    assert bars.count("<rect") == 3
    assert 'width="33.33%"' in bars
    line = page(hub, q="SELECT time, duration_ms FROM spans ORDER BY time DESC").text
    assert 'points="0.0,106.7 500.0,53.3 1000.0,0.0"' in line
    assert "&lt;b&gt;" in page(hub, q="SELECT '<b>'").text
    wrong = page(hub, q="SELECT nothing")
    assert wrong.status_code == 422
    assert 'role="alert"' in wrong.text
    assert page(hub, q="SELECT 1", since="never").status_code == 422


@pytest.mark.parametrize(
    ("sql", "parts"),
    [
        (
            "SELECT TIMESTAMP '0001-01-01' + to_days(x::INT) AS a, x AS v FROM range(3) t(x)",
            ["0001-01-03 00:00:00", 'points="0.0,160.0 500.0,80.0 1000.0,0.0"'],
        ),
        (
            "SELECT DATE '2024-01-01' + x::INT AS a, x AS v FROM range(3) t(x)",
            ["<span>2024-01-03</span>", " 500.0,80.0"],
        ),
        (
            "SELECT TIMESTAMP_NS '2024-01-01 00:00:00.123456789' + to_days(x::INT) AS a, x AS v FROM range(3) t(x)",
            ["<span>2024-01-03 00:00:00</span>", " 500.0,80.0"],
        ),
        ("SELECT x, 1.7e308 * x AS v FROM range(-1, 2) t(x)", ['points="0.0,160.0 500.0,80.0 1000.0,0.0"']),
        ("SELECT 1.7e308 * x AS x, x AS v FROM range(-1, 2) t(x)", ['points="0.0,160.0 500.0,80.0 1000.0,0.0"']),
        ("SELECT 'a' AS name, 1.7e308 AS v UNION ALL SELECT NULL, 0", ['width="100.0%"', '<th scope="row">NULL</th>']),
        ("SELECT true AS name, 170141183460469231731687303715884105727 AS v", ['"row">true</th>', "1.70e+38"]),
    ],
)
def test_charts_of_unusual_values(hub: InProcessHub, sql: str, parts: list[str]) -> None:
    """All types of time are an axis, and large numbers have a place."""
    text = page(hub, q=sql).text
    assert [part for part in parts if part not in text] == []


def test_charts_leave_out_times_in_nanoseconds(hub: InProcessHub) -> None:
    """They are no quantity, and would flatten the other lines."""
    text = page(hub, q="SELECT time, time_ns, max(time_ns), duration_ms FROM spans GROUP BY ALL").text
    assert 'aria-label="duration_ms over time"' in text


def test_numbers_and_short_texts_stay_on_one_line(hub: InProcessHub) -> None:
    """Other texts, also lists of times, break anywhere, and so do the names of bars."""
    sql = "SELECT time, trace_id, 123456789012345678901::HUGEINT, INTERVAL 1 DAY, repeat(name, 9), [time], 1 FROM spans"
    table = page(hub, q=f"{sql} LIMIT 1").text.partition('aria-label="Result"')[2]
    cells = re.findall(r'<td class="(numeric|sql-\w+)"', table)
    assert cells == ["sql-line"] * 4 + ["sql-text"] * 2 + ["numeric"]
    css = httpx.get(f"{hub.page_url}/static/sql.css").text
    assert ".sql-line { white-space: pre }" in css
    assert ".sql-bars th { white-space: normal; overflow-wrap: anywhere }" in css


def test_a_link_of_another_site_does_not_run_a_query(hub: InProcessHub) -> None:
    """The page shows the query, and the user decides."""
    response = page(hub, {"Sec-Fetch-Site": "cross-site"}, q="SELECT 41 + 1")
    assert "Read it, then run it" in response.text
    assert "42" not in response.text.split("Views")[0].split("</form>")[1]


def test_the_views_are_listed(hub: InProcessHub) -> None:
    """The API and the page have the columns and their types, and docs/hub.md has the columns."""
    views = httpx.get(f"{hub.page_url}/api/sql/views").json()["views"]
    assert {"name": "duration_ms", "type": "DOUBLE"} in views["spans"]
    assert "duration_ms" in page(hub).text
    text = (Path(__file__).parents[2] / "docs" / "hub.md").read_text()
    section = text.partition("\n## SQL\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|[^|]*\| (`.*`) \|$", section, re.MULTILINE)
    assert {name: columns.strip("`").split("`, `") for name, columns in documented} == {
        name: [column["name"] for column in columns] for name, columns in views.items()
    }


@pytest.mark.parametrize("path", ["sql", "api/sql", "traces", "health", "models", "logs"])
def test_an_unknown_parameter_is_named_with_the_valid_ones(hub: InProcessHub, path: str) -> None:
    """Also if its name is that of a part of the address."""
    response = httpx.get(f"{hub.page_url}/{path}", params={"query": "SELECT 1"})
    assert response.status_code == 422
    assert "query: there is no such parameter; the parameters are " in response.text
    assert "sql" not in path or "since, until, q, limit" in response.text
