"""The pages about models name what they leave out, and lead to the comparison of two versions."""

import re
from collections.abc import Sequence
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.model_features import Feature
from tests.helpers.model_telemetry import ModelService
from tests.helpers.otlp_sender import Sender


def service(
    hub: InProcessHub, name: str, version: str = "1.0.0", features: Sequence[Feature] = (Feature("age"),)
) -> ModelService:
    """Return a model service that sends to the hub."""
    sender = Sender(f"http://127.0.0.1:{hub.settings.http_port}", instance=f"{name} {version}")
    return ModelService(sender, name, version, features)


def links(html: str) -> list[tuple[str, str]]:
    """Return address and text of each link of a page."""
    found = re.findall(r'<a href="([^"]+)"[^>]*>([^<]+)</a>', html)
    return [(unescape(address), unescape(text)) for address, text in found]


def test_synthetic_predictions_are_named_and_listed(hub: InProcessHub) -> None:
    """A model that got generated traffic alone shows how many predictions are left out, with a link that lists them."""
    generated = service(hub, "generated")
    generated.predict_synthetic(5)
    generated.export()

    html = httpx.get(f"{hub.page_url}/models", params={"model": "generated"}).text
    ((address, text),) = [link for link in links(html) if "synthetic" in link[1]]
    assert text == "5 synthetic predictions not counted"
    assert "All predictions of this window are synthetic" in html
    assert "No predictions in this window" not in html
    listed = httpx.get(f"{hub.page_url}/{address}", follow_redirects=True).text
    assert listed.count("<tr data-key=") == 5
    (counts,) = httpx.get(f"{hub.page_url}/api/models/generated").json()["versions"]
    assert (counts["predictions"]["count"], counts["predictions"]["synthetic"]) == (0, 5)
    assert re.search(r"<td[^>]*>0 <span[^>]*>\+ 5 synthetic</span>", httpx.get(f"{hub.page_url}/").text)


def test_predictions_that_are_not_synthetic_have_no_such_link(hub: InProcessHub) -> None:
    """The number of synthetic predictions is shown only if there are some."""
    real = service(hub, "real")
    real.predict(3)
    real.export()

    assert "synthetic" not in httpx.get(f"{hub.page_url}/models", params={"model": "real"}).text


def test_each_version_leads_to_its_difference_from_the_previous_one(hub: InProcessHub) -> None:
    """The link compares the predictions of a version with those of the version before it, in the same window."""
    for version, count in (("1.0.0", 8), ("1.1.0", 6), ("2.0.0", 7)):
        sender = service(hub, "compared", version)
        sender.predict(count, recorded=count)
        sender.export()

    html = httpx.get(f"{hub.page_url}/models", params={"model": "compared"}).text
    found = [link for link in links(html) if link[0].startswith("./explain")]
    assert [text for _, text in found] == ["from 1.1.0", "from 1.0.0"]
    query = parse_qs(urlsplit(found[0][0]).query)
    assert (query["select.version"], query["against.version"]) == (["2.0.0"], ["1.1.0"])
    explained = httpx.get(f"{hub.page_url}/api/explain?{urlsplit(found[0][0]).query}").json()
    assert (explained["selected"]["count"], explained["other"]["count"]) == (7, 6)


def test_the_number_of_the_other_features_is_singular_or_plural(hub: InProcessHub) -> None:
    """A page of twelve features says how many others there are."""
    for count, text in ((13, "1 other differs less"), (14, "2 others differ less")):
        sender = service(hub, f"wide{count}", features=[Feature(f"feature{number}") for number in range(count)])
        sender.start()
        sender.predict(3)
        sender.export()
        assert text in httpx.get(f"{hub.page_url}/models", params={"model": f"wide{count}"}).text


def test_drifted_features_are_sorted_by_importance(hub: InProcessHub) -> None:
    """A feature that drifted less, but that the model uses, is first; without importances, the larger PSI is first."""
    importances = (0.02, 0.9, 0.08), (None, None, None)
    for name, values in zip(("weighed", "plain"), importances, strict=True):
        features = [
            Feature(feature, shift=shift, importance=value)
            for feature, shift, value in zip(("much", "less", "none"), (2.0, 1.0, 0.0), values, strict=True)
        ]
        sender = service(hub, name, features=features)
        sender.start()
        sender.predict(600)
        sender.export()

    pages = {name: httpx.get(f"{hub.page_url}/models", params={"model": name}).text for name in ("weighed", "plain")}

    rows = {name: re.findall(r'<th scope="row">(much|less|none)</th>', html) for name, html in pages.items()}
    assert rows == {"weighed": ["less", "much", "none"], "plain": ["much", "less", "none"]}
    assert re.findall(r'<td class="numeric">(90|2|8)\u202f%</td>', pages["weighed"]) == ["90", "2", "8"]
    assert ">Importance</th>" not in pages["plain"]
