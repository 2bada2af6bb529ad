"""How the metric points of a trace are listed on its page."""

from typing import Any

from modeltrace_hub.web.metric_points import MOST_OPEN, by_metric


def a_point(name: str, **attributes: Any) -> dict[str, Any]:
    """A point of a series."""
    return {"name": name, "attributes": {"model": "m", **attributes}}


def test_a_few_points_of_a_metric_stand_open() -> None:
    """Each with all that its series says, in the order in which they came."""
    points = [a_point("a", n=1), a_point("a", n=2), a_point("b")]

    first, second = by_metric(points)

    assert ([*first.points], [*second.points]) == (points[:2], points[2:])
    assert not first.folded
    assert first.own(points[0]) == {"model": "m", "n": 1}


def test_many_points_of_a_metric_are_folded_and_say_once_what_they_share() -> None:
    """A model of thirty features makes thirty points; what differs is what each is about."""
    points = [a_point("a", n=n, kind="x") for n in range(MOST_OPEN + 1)]

    (folded,) = by_metric(points)

    assert folded.folded
    assert folded.shared == {"model": "m", "kind": "x"}
    assert [folded.own(point) for point in points] == [{"n": n} for n in range(MOST_OPEN + 1)]


def test_no_points_are_no_metrics() -> None:
    """The page says why instead."""
    assert by_metric([]) == []
