"""Which origins a page of comics may load pictures from."""

import pytest

from quart_async_api.http.routes.comics import picture_origins


def test_the_origin_of_each_picture_once() -> None:
    urls = ["https://imgs.xkcd.com/a.png", "https://imgs.xkcd.com/b.png", "http://[::1]:8080/c.svg", "http://h?d"]
    assert picture_origins(urls) == ["http://[::1]:8080", "http://h", "https://imgs.xkcd.com"]


@pytest.mark.parametrize(
    "url",
    [
        "https://h;script-src *;x/a.png",
        "https://h 'unsafe-inline'/a.png",
        "https://user@h/a.png",
        "https://*/a.png",
        "https://h\n/a.png",
        "https:///a.png",
        "javascript:alert(1)",
        "data:image/svg+xml,x",
    ],
)
def test_an_upstream_cannot_write_into_the_policy_by_way_of_an_address(url: str) -> None:
    assert picture_origins([url]) == []
