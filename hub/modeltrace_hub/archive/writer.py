"""Write an archive: a zip file with OTLP/JSON, which programs read, and a page without scripts, which people read."""

import io
import time
import zipfile
from collections import defaultdict
from typing import Final

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from modeltrace_hub.archive.selection import Selection
from modeltrace_hub.queries.reader import Record
from modeltrace_hub.queries.span_tree import build_tree
from modeltrace_hub.web import format as fmt

FORMAT_VERSION: Final = 1
MAX_PAGE_BYTES: Final = 10**6
# The page lists fewer items until it fits. The JSON files always have all of them.
_PAGE_LIMITS: Final = (2000, 1000, 500, 200, 50, 10)
_MAX_TEXT: Final = 2000
_MAX_DEPTH: Final = 30


def build_archive(selection: Selection) -> bytes:
    """Return the archive.

    Its files are `manifest.json` (version of the format, time, number of records), `traces.jsonl`, `logs.jsonl` and
    `metrics.jsonl` (one export request in OTLP/JSON per line, as the file exporter of the Collector writes), and
    `index.html`.
    """
    now_ns = time.time_ns()
    manifest = {
        "format": FORMAT_VERSION,
        "created": fmt.iso_time(now_ns),
        "spans": len(selection.spans),
        "logs": len(selection.logs),
        "points": len(selection.points),
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        archive.writestr("index.html", _render_page(selection, now_ns))
        for name, lines in selection.lines():
            archive.writestr(name, lines)
    return target.getvalue()


def _render_page(selection: Selection, now_ns: int) -> str:
    environment = Environment(
        loader=PackageLoader("modeltrace_hub", "web/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": fmt.duration,
        "utc_time": fmt.utc_time,
        "plural": fmt.plural,
        "text": lambda value: fmt.attribute_text(value)[:_MAX_TEXT],
    }
    template = environment.get_template("archive.html")
    trace_count, traces = _build_traces(selection)
    for limit in (*_PAGE_LIMITS, 0):
        html = _render_bounded(
            template,
            traces=[{**trace, "rows": trace["rows"][:limit]} for trace in traces[:limit]],
            logs=[log for log in selection.logs if log["trace_id"] is None][:limit],
            selection=selection,
            trace_count=trace_count,
            limit=limit,
            now_ns=now_ns,
        )
        if html is not None:
            break
    return html or ""


def _render_bounded(template: Template, **values: object) -> str | None:
    """Return the page, or None as soon as it has more than `MAX_PAGE_BYTES`."""
    parts: list[str] = []
    size = 0
    for part in template.generate(**values):
        size += len(part.encode())
        if size > MAX_PAGE_BYTES:
            return None
        parts.append(part)
    return "".join(parts)


def _build_traces(selection: Selection) -> tuple[int, list[Record]]:
    """Return the number of traces, and the first ones by start, as many as the page can list.

    Each has its spans as rows of a waterfall and its log records.
    """
    spans = defaultdict(list)
    logs = defaultdict(list)
    for span in selection.spans:
        spans[span["trace_id"]].append(span)
    for log in selection.logs:
        if log["trace_id"] is not None:
            logs[log["trace_id"]].append(log)
    starts = sorted((_start(spans[trace_id], logs[trace_id]), trace_id) for trace_id in {*spans, *logs})
    return len(starts), [
        _build_trace(trace_id, start_ns, spans[trace_id], logs[trace_id])
        for start_ns, trace_id in starts[: _PAGE_LIMITS[0]]
    ]


def _start(spans: list[Record], logs: list[Record]) -> int:
    """Return the start of the first span, or else the time of the first log record."""
    times: list[int] = [span["start_ns"] for span in spans] or [log["time_ns"] for log in logs]
    return min(times)


def _build_trace(trace_id: str, start_ns: int, spans: list[Record], logs: list[Record]) -> Record:
    spans = sorted(spans, key=lambda span: (span["start_ns"], span["parent_span_id"] is not None))
    end_ns = max((span["end_ns"] for span in spans), default=start_ns)
    width = max(end_ns - start_ns, 1)
    tree = build_tree(spans)
    rows = [*zip(tree.depths, tree.spans, strict=True)]
    return {
        "trace_id": trace_id,
        "name": rows[0][1]["name"] if rows else "log records",
        "start_ns": start_ns,
        "duration_ns": end_ns - start_ns if spans else None,
        "errors": sum(span["status_code"] == "ERROR" for span in spans),
        "span_count": len(rows),
        "rows": [
            {
                "span": span,
                "depth": min(depth, _MAX_DEPTH),
                "left": round(100 * (span["start_ns"] - start_ns) / width, 2),
                "width": round(max(100 * (span["end_ns"] - span["start_ns"]) / width, 0.2), 2),
            }
            for depth, span in rows
        ],
        "logs": sorted(logs, key=lambda log: log["time_ns"]),
    }
