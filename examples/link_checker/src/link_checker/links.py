"""The links of an HTML page."""

from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

_ATTRIBUTES = {"a": "href", "area": "href", "img": "src", "link": "href", "script": "src"}


class _Links(HTMLParser):
    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.found: dict[str, None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        value = dict(attrs).get(_ATTRIBUTES.get(tag, ""))
        if not value:
            return
        try:
            link = urldefrag(urljoin(self.base, value.strip())).url
            is_web = urlsplit(link).scheme in ("http", "https")
        except ValueError:  # as in http://[
            return
        if is_web:
            self.found[link] = None


def links_of(html: str, base: str) -> list[str]:
    """Every http and https link, absolute, without its fragment, once, in the order of the page."""
    parser = _Links(base)
    parser.feed(html)
    return list(parser.found)
