"""Arrange the spans of a trace as a tree."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from modeltrace_hub.queries.reader import Record


@dataclass(frozen=True, slots=True)
class SpanTree:
    """The spans of a trace, each followed by its descendants. The other fields name spans by position in `spans`."""

    spans: list[Record]
    parents: list[int | None]
    depths: list[int]  # number of ancestors
    children: list[list[int]]  # by start
    parent_missing: list[bool]  # whether the span names a parent that is not stored

    @property
    def roots(self) -> list[int]:
        """The spans without a parent."""
        return [index for index, parent in enumerate(self.parents) if parent is None]


def build_tree(spans: Sequence[Record]) -> SpanTree:
    """Arrange spans that are ordered by start. A span whose parent is not stored is a root."""
    by_id: dict[str | None, list[Record]] = defaultdict(list)
    for span in spans:
        by_id[span["span_id"]].append(span)
    below: dict[int | None, list[Record]] = defaultdict(list)
    for span in spans:
        parent = find_parent(span, by_id.get(span["parent_span_id"], ()))
        below[None if parent is None else id(parent)].append(span)
    tree = SpanTree([], [], [], [], [])
    visited: set[int] = set()
    # No root has spans of a parent cycle as descendants. Add these spans after all others.
    for root in (*below[None], *spans):
        stack: list[tuple[Record, int | None]] = [(root, None)]
        while stack:
            span, parent_index = stack.pop()
            if id(span) in visited:
                continue
            visited.add(id(span))
            index = len(tree.spans)
            tree.spans.append(span)
            tree.parents.append(parent_index)
            tree.depths.append(0 if parent_index is None else tree.depths[parent_index] + 1)
            tree.children.append([])
            tree.parent_missing.append(span["parent_span_id"] is not None and span["parent_span_id"] not in by_id)
            if parent_index is not None:
                tree.children[parent_index].append(index)
            stack += [(child, index) for child in reversed(below.get(id(span), ()))]
    return tree


def find_parent(span: Record, candidates: Sequence[Record]) -> Record | None:
    """Return the parent of a span. If several spans have its ID, prefer one of the same service."""
    others = [candidate for candidate in candidates if candidate is not span]
    same_service = (candidate for candidate in others if candidate["service_name"] == span["service_name"])
    return next(same_service, others[0] if others else None)
