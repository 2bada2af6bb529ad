"""The groups of metric points on the page of a trace."""

from typing import Any

from modeltrace_hub.web.metric_points import MAX_UNFOLDED, group_by_metric


def point(name: str, **attributes: Any) -> dict[str, Any]:
    """Return a point of a series."""
    return {"name": name, "attributes": {"model": "m", **attributes}}


def test_few_points_of_a_metric_are_not_folded() -> None:
    """Each is shown with all its attributes, in the original order."""
    points = [point("a", n=1), point("a", n=2), point("b")]

    first, second = group_by_metric(points)

    assert ([*first.points], [*second.points]) == (points[:2], points[2:])
    assert not first.folded
    assert first.shared_attributes == {}


def test_many_points_of_a_metric_are_folded() -> None:
    """Attributes that all points have are shown once."""
    points = [point("a", n=n, kind="x") for n in range(MAX_UNFOLDED + 1)]

    (folded,) = group_by_metric(points)

    assert folded.folded
    assert folded.shared_attributes == {"model": "m", "kind": "x"}


def test_no_points_give_no_groups() -> None:
    """The page explains why there are none."""
    assert group_by_metric([]) == []
