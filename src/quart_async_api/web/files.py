"""The static files and the templates of an app."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING, Self

from jinja2 import BytecodeCache
from quart import Quart, Response, request
from werkzeug.exceptions import NotFound

from ..http.contract.needs import needs

if TYPE_CHECKING:
    from types import CodeType

    from jinja2.bccache import Bucket


_STATIC = Path(__file__).parent / "static"
_MAX_AGE = 12 * 60 * 60  # seconds; pages ask for the files of their own version


class _Compiled(BytecodeCache):
    """Compiled templates for all apps of this process: compiling takes most of the time of `create_app`."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], CodeType | None] = {}

    def load_bytecode(self, bucket: "Bucket") -> None:
        bucket.code = self._code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: "Bucket") -> None:
        self._code[bucket.key, bucket.checksum] = bucket.code


_compiled = _Compiled()


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str
    modified: datetime

    @classmethod
    def read(cls, file: Path) -> Self:
        content = file.read_bytes()
        media_type = guess_type(file.name)[0] or "application/octet-stream"
        modified = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        return cls(content, media_type, sha256(content).hexdigest()[:32], modified)

    async def answer(self) -> Response:
        response = Response(self.content, mimetype=self.media_type)
        response.cache_control.public = True
        response.cache_control.max_age = _MAX_AGE
        response.last_modified = self.modified
        response.set_etag(self.etag)
        return await response.make_conditional(request, accept_ranges=True, complete_length=len(self.content))


def load_templates(app: Quart) -> None:
    """Compile all templates now: later, that would block the event loop."""
    app.jinja_env.bytecode_cache = _compiled
    for template in app.jinja_env.list_templates():
        app.jinja_env.get_template(template)


@lru_cache(maxsize=1)
def _files() -> Mapping[str, _File]:
    return {file.relative_to(_STATIC).as_posix(): _File.read(file) for file in _STATIC.rglob("*.*")}


def serve_files(app: Quart) -> None:
    """Serve the static files, which are read once: no request touches the disk, where some names are errors."""
    files = _files()

    @app.get("/static/<path:filename>", endpoint="static")
    @needs(open=True)
    async def static(filename: str) -> Response:
        if filename not in files:
            raise NotFound
        return await files[filename].answer()
