"""One HTTP API that is asked for JSON, and what is said of it when it does not answer."""

from http import HTTPStatus
from typing import Any

import httpx

from modeltrace.client.service import UnreachableError, describe_error


class JsonApi:
    """An API by name and address. `option` is what changes the address, and is named when nobody answers there."""

    def __init__(self, name: str, url: str, option: str, client: httpx.AsyncClient) -> None:
        self.name = name
        self.url = url
        self._option = option
        self._client = client

    async def get_json(self, path: str, **parameters: str | float) -> Any:  # noqa: ANN401  what the API says
        """The JSON at a path; `None` when there is nothing.

        Raises:
            UnreachableError: nobody answers, or not with what was asked for.
        """
        answer = await self._get(path, parameters)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return None
        if answer.status_code != HTTPStatus.OK:
            said = " ".join(answer.text.split())[:200]
            raise UnreachableError(f"{self.name} at {self.url} answers {answer.status_code}: {said} ({self._option})")
        try:
            return answer.json()
        except ValueError:
            raise self.wrong_server_error() from None

    async def has_page(self, path: str, *, placeholder: str) -> bool:
        """Whether a person finds a page there: a build without one answers with an error or a placeholder."""
        answer = await self._get(path, {})
        return answer.status_code == HTTPStatus.OK and placeholder not in answer.text

    def wrong_server_error(self) -> UnreachableError:
        """What is said when something else answers there."""
        return UnreachableError(f"what answers at {self.url} is no {self.name} ({self._option})")

    async def _get(self, path: str, parameters: dict[str, str | float]) -> httpx.Response:
        try:
            return await self._client.get(f"{self.url}{path}", params=parameters)
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"no {self.name} answers at {self.url}: {describe_error(error)} ({self._option})"
            ) from None
