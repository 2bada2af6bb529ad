"""Draw the charts of a classifier's labelled predictions: reliability, ROC curve and precision-recall curve."""

from collections.abc import Sequence

from modeltrace_hub.queries.filter_line import format_condition
from modeltrace_hub.queries.reader import Record
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.model_charts import Link
from modeltrace_hub.web.square_plot import LABELLED, Plot, Point, Shape, bounds, circle, line


def draw_reliability(tenths: Sequence[Record], link: Link) -> Plot:
    """Draw accuracy by confidence. The area of a circle is proportional to the number of labels."""
    most = max(tenth["labels"] for tenth in tenths)
    circles = []
    for tenth in tenths:
        title = (
            f"Confidence {fmt.number(tenth['low'])} to {fmt.number(tenth['high'])}, mean "
            f"{fmt.number(tenth['confidence'])}: accuracy {fmt.number(tenth['accuracy'])} of "
            f"{fmt.plural(tenth['labels'], 'label')}"
        )
        conditions = bounds("confidence", tenth["low"] or None, tenth["high"])
        circles.append(
            circle(tenth["confidence"], tenth["accuracy"], tenth["labels"] / most, title, link(filter=conditions))
        )
    curve = line((tenth["confidence"], tenth["accuracy"]) for tenth in tenths)
    return Plot("Reliability", "mean confidence", "accuracy", "0", "1", circles, (), curve, line([(0, 0), (1, 1)]))


def draw_roc(ranking: Record, link: Link) -> Plot:
    """Draw recall by false positive rate."""
    points = [(point["false_positive_rate"], point["recall"]) for point in ranking["points"]]
    circles = _curve_circles(ranking, points, link)
    title = f"ROC curve, area {fmt.number(ranking['roc_auc'])}"
    curve = line([(0.0, 0.0), *points])
    return Plot(title, "false positive rate", "recall", "0", "1", circles, (), curve, line([(0, 0), (1, 1)]))


def draw_precision_recall(ranking: Record, link: Link) -> Plot:
    """Draw precision by recall. The reference line is the share of the positive class."""
    points = [(point["recall"], point["precision"]) for point in ranking["points"]]
    circles = _curve_circles(ranking, points, link)
    share = ranking["positives"] / ranking["labels"]
    title = f"Precision-recall curve, average precision {fmt.number(ranking['average_precision'])}"
    return Plot(title, "recall", "precision", "0", "1", circles, (), line(points), line([(0, share), (1, share)]))


def _curve_circles(ranking: Record, points: Sequence[Point], link: Link) -> list[Shape]:
    """Return a circle for each threshold. It links to the predictions of the bin that ends at the threshold."""
    name = ranking["positive_class"]
    circles = []
    for (x, y), point in zip(points, ranking["points"], strict=True):
        title = (
            f"Probability of {name} at least {fmt.number(point['low'])}: recall {fmt.number(point['recall'])}, "
            f"false positive rate {fmt.number(point['false_positive_rate'])}, precision "
            f"{fmt.number(point['precision'])}. The bin up to {fmt.number(point['high'])} has "
            f"{fmt.plural(point['labels'], 'label')}, {fmt.number(point['positives'])} of {name}"
        )
        field = f"probability.{name}"
        limits = [
            format_condition(field, operator, repr(point[end])) for operator, end in ((">=", "low"), ("<=", "high"))
        ]
        circles.append(circle(x, y, 0.0, title, link(filter=" ".join([*limits, LABELLED]))))
    return circles
