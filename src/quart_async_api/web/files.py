"""The static files and the templates of an app."""

from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import BytecodeCache
from quart import Quart, request
from werkzeug.exceptions import NotFound

if TYPE_CHECKING:
    from types import CodeType

    from jinja2.bccache import Bucket


class _Compiled(BytecodeCache):
    """Compiled templates for all apps of this process: compiling takes most of the time of `create_app`."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], CodeType | None] = {}

    def load_bytecode(self, bucket: "Bucket") -> None:
        bucket.code = self._code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: "Bucket") -> None:
        self._code[bucket.key, bucket.checksum] = bucket.code


_compiled = _Compiled()


def load_templates(app: Quart) -> None:
    """Compile all templates now: later, that would block the event loop."""
    app.jinja_env.bytecode_cache = _compiled
    for template in app.jinja_env.list_templates():
        app.jinja_env.get_template(template)


def refuse_unknown_files(app: Quart) -> None:
    """Answer 404 for unknown static files without access to the disk, where some names cause errors."""
    folder = Path(app.static_folder or "")
    known = {file.relative_to(folder).as_posix() for file in folder.rglob("*")}

    @app.before_request
    async def check() -> None:
        if request.endpoint == "static" and (request.view_args or {}).get("filename") not in known:
            raise NotFound
