"""The static files of an app."""

from pathlib import Path

from quart import Quart, request
from werkzeug.exceptions import NotFound


def refuse_unknown_files(app: Quart) -> None:
    """Answer 404 for names that no static file has, without a look at the disk, where some names are errors."""
    folder = Path(app.static_folder or "")
    known = {file.relative_to(folder).as_posix() for file in folder.rglob("*")}

    @app.before_request
    async def check() -> None:
        if request.endpoint == "static" and (request.view_args or {}).get("filename") not in known:
            raise NotFound
