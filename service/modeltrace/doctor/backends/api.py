"""Client of a JSON API, with error messages that name the server and the option for its address."""

from http import HTTPStatus
from typing import Any

import httpx

from modeltrace.client.service import UnreachableError, describe_error


class JsonApi:
    """A JSON API. `option` is the command line option for its address; error messages name it."""

    def __init__(self, name: str, url: str, option: str, client: httpx.AsyncClient) -> None:
        self.name = name
        self.url = url
        self._option = option
        self._client = client

    async def get_json(self, path: str, **parameters: str | float) -> Any:  # noqa: ANN401  any JSON
        """Return the JSON at a path, or `None` for 404.

        Raises:
            UnreachableError: there is no answer, or it is an error or not JSON.
        """
        response = await self._get(path, parameters)
        if response.status_code == HTTPStatus.NOT_FOUND:
            return None
        if response.status_code != HTTPStatus.OK:
            text = " ".join(response.text.split())[:200]
            raise UnreachableError(f"{self.name} at {self.url} answers {response.status_code}: {text} ({self._option})")
        try:
            return response.json()
        except ValueError:
            raise self.wrong_server_error() from None

    async def get_data(self, path: str, **parameters: str | float) -> Any:  # noqa: ANN401  any JSON
        """Return the data of a response of the API that Prometheus and Loki have.

        Raises:
            UnreachableError: there is no answer, or it is an error or not from this API.
        """
        answer = await self.get_json(path, **parameters)
        if not isinstance(answer, dict) or answer.get("status") != "success":
            raise self.wrong_server_error()
        return answer.get("data")

    async def has_page(self, path: str, *, placeholder: str) -> bool:
        """Return whether there is a web page. A build without pages answers with an error or a placeholder."""
        response = await self._get(path, {})
        return response.status_code == HTTPStatus.OK and placeholder not in response.text

    def wrong_server_error(self) -> UnreachableError:
        """Return the error for another server at this address."""
        return UnreachableError(f"the server at {self.url} is not {self.name} ({self._option})")

    async def _get(self, path: str, parameters: dict[str, str | float]) -> httpx.Response:
        try:
            return await self._client.get(f"{self.url}{path}", params=parameters)
        except httpx.HTTPError as error:
            reason = describe_error(error)
            raise UnreachableError(f"no {self.name} answers at {self.url}: {reason} ({self._option})") from None
