"""Query parameters of the pages and API calls about one trace, and about two traces."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from modeltrace_hub.queries.list_parameters import MAX_ROW_INDEX, LimitedText, TraceId
from modeltrace_hub.queries.parameters import Parameters


class TraceSearch(Parameters):
    """Search the spans of one trace."""

    q: LimitedText = Field(
        None, description="Part of a name, service, ID, status message, attribute or event; case is ignored."
    )


class TracePageView(Parameters):
    """The state of a trace page: the selected span, searched text, log filter, prediction, order and page.

    Without a page, the page shows the selected span. `part=span` returns only the details of the selected span.
    """

    span: Annotated[str | None, Field(pattern="^[0-9a-f]{16}$")] = None
    logs: Literal["all", "span"] = "all"
    offset: int = Field(0, ge=0, le=MAX_ROW_INDEX)
    row: int = Field(0, ge=0, le=MAX_ROW_INDEX)
    version: LimitedText = None
    # The time range of the list that led here; the links of the navigation carry it.
    since: LimitedText = None
    until: LimitedText = None
    page: Annotated[int | None, Field(ge=0, le=MAX_ROW_INDEX)] = None
    q: LimitedText = None
    sort: Literal["row", "-row", "output", "-output", "confidence", "-confidence"] = "row"
    part: Literal["page", "span"] = "page"


OptionalTraceId = Annotated[TraceId | None, BeforeValidator(lambda value: str(value).strip().lower())]


class ComparedTraces(Parameters):
    """The two traces of a comparison."""

    a: TraceId = Field(description="The first trace.")
    b: TraceId = Field(description="The second trace; differences are `b` - `a`.")


class CompareView(Parameters):
    """The state of the page that compares two traces. `changes=true` hides paths that are similar in both."""

    a: OptionalTraceId = None
    b: OptionalTraceId = None
    changes: bool = False
