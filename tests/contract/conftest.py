"""The service in a process of its own beside a stand-in for the outside world, and its document."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from quart_async_api import Settings, create_app
from quart_async_api.demo import start_in_thread
from quart_async_api.http.contract.openapi import document
from tests.in_process import invoke
from tests.process.conftest import assert_clean, serve
from tests.secrets import secret

Json = dict[str, Any]


class Service(NamedTuple):
    base_url: str
    headers: Mapping[str, str]


def read_document() -> Json:
    """The document of a service with the default settings; it needs none that runs."""
    return dict(json.loads(document(create_app(Settings()))))


@pytest.fixture(scope="session")
def api() -> Json:
    return read_document()


@pytest.fixture(scope="module", params=["open", "with a key"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, migrated_file: Any
) -> Iterator[Service]:
    """The running service, and the headers that a caller of it sends; it ends well and without a complaint."""
    stand_in = start_in_thread(latency=0)
    stand_in.newest = 2**31 - 1  # each number that the document allows is a comic
    settings = {
        "QAA_CALLBACK_ALLOW_PRIVATE": "1",
        "QAA_DRAIN_SECONDS": "1",
        "QAA_COMIC_BASE_URL": stand_in.url,
        "QAA_EXTERNAL_API_URL": stand_in.external_api_url,
        "QAA_RATE_LIMIT": "off",  # else 429 would be the answer to most of what is asked here
        "QAA_REFUSAL_LIMIT": "off",  # the same, of routes that want a key or a scope
    }
    folder = tmp_path_factory.mktemp("contract")
    with serve(folder, migrated_file, **settings) as server:
        keyed = request.param == "with a key"
        yield Service(server.url, {"Authorization": f"Bearer {_key(folder / 'app.db')}"} if keyed else {})
        assert server.stop() == 0, server.log
    assert_clean(server)


def _key(database: Path) -> str:
    url = {"QAA_DATABASE_URL": f"sqlite://{database}"}
    made = invoke("keys", "create", "--scope", "admin", "--json", **url)
    return secret(json.loads(made.stdout)["key"])
