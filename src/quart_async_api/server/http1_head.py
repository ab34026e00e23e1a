"""The grammar of the head of an HTTP/1.1 request: RFC 9112 and RFC 9110 to the letter, what is no request is refused."""

import re
from dataclasses import dataclass

from ..wire.addresses import host_of

CHUNKED = -1

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_FIELD = _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n"
_HEAD = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])\r\n((?:" + _FIELD + rb")*+)\r\n")
_OTHER_VERSION = re.compile(_TOKEN + rb" [\x21-\x7e]++ HTTP/(?!1\.[0-9]\r)[0-9]+(\.[0-9]+)?\r\n")
# Never part of a head, wherever it ends: control characters, and one half of a line break.
_NEVER = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r[^\n]")
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_FRAMING = frozenset((b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade"))

trailers = re.compile(rb"(?:" + _FIELD + rb")*+").fullmatch
Field = tuple[bytes, bytes]


class Refused(Exception):
    """The server answers `status`, and closes the connection."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(slots=True)
class Head:
    """A request up to its body.

    `length` of the body in bytes, or CHUNKED. `is_old`: HTTP/1.0. `keeps`: the connection may go on after the answer.
    `waits`: the client sends the body after a 100 (Continue). `opens_socket`: it asks for a WebSocket.
    """

    method: str
    target: bytes
    fields: list[Field]
    length: int
    is_old: bool
    keeps: bool
    waits: bool
    opens_socket: bool


def empty_lines(data: bytes) -> int:
    """Return the length of the empty lines that may stand before a head (RFC 9112 section 2.2)."""
    match = _EMPTY_LINES.match(data)
    return match.end() if match else 0


def could_begin(data: bytes, start: int) -> bool:
    """Return whether `data`, whose end is not there yet, can become a head. The bytes before `start` have been looked at."""
    return _NEVER.search(data, start) is None


def read(data: bytes) -> Head:
    """Read a head, from its first byte to its empty line. Raises Refused: 400, 501 or 505."""
    match = _HEAD.fullmatch(data)
    if match is None:
        raise Refused(505 if _OTHER_VERSION.match(data) and could_begin(data, 0) else 400)
    method, target, major, minor, lines = match.groups()
    if major != b"1":
        raise Refused(505)
    fields: list[Field] = []
    framing: dict[bytes, list[bytes]] = {}
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        fields.append((name, value))
        if name in _FRAMING:
            framing.setdefault(name, []).append(value)
    is_old = minor == b"0"
    hosts = framing.get(b"host", ())
    if len(hosts) > 1 or not (hosts or is_old):
        raise Refused(400)
    # The app explains in a problem what is wrong with a Host. Nothing that follows on the connection is trusted.
    is_sound = not hosts or not hosts[0] or host_of(hosts[0].decode("latin-1")) is not None
    options = _elements(framing.get(b"connection", ()))
    return Head(
        method=method.decode("ascii").upper(),
        target=target,
        fields=fields,
        length=_length(framing, is_old=is_old),
        is_old=is_old,
        keeps=is_sound and b"close" not in options and (not is_old or b"keep-alive" in options),
        waits=not is_old and b"100-continue" in _elements(framing.get(b"expect", ())),
        # No more than Hypercorn opens: it would read any other request, and those behind it, by its own laxer rules.
        opens_socket=method == b"GET"
        and not is_old
        and b"upgrade" in options
        and len(framing[b"connection"]) == 1
        and [value.lower() for value in framing.get(b"upgrade", ())] == [b"websocket"],
    )


def _elements(values: "list[bytes] | tuple[()]") -> "list[bytes] | tuple[()]":
    """Return the elements of a list field in lower case (RFC 9110 section 5.6.1)."""
    return [element.strip(b" \t").lower() for value in values for element in value.split(b",")] if values else ()


def _length(framing: dict[bytes, list[bytes]], *, is_old: bool) -> int:
    """Return the length of the body (RFC 9112 section 6.3). Raises Refused where two readers could find two lengths."""
    lengths = framing.get(b"content-length", ())
    if b"transfer-encoding" in framing:
        codings = _elements(framing[b"transfer-encoding"])
        if lengths or is_old or codings.count(b"chunked") > 1 or b"chunked" in codings[:-1] or b"" in codings:
            raise Refused(400)
        if codings != [b"chunked"]:
            raise Refused(501)
        return CHUNKED
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise Refused(400)
    return int(lengths[0])
