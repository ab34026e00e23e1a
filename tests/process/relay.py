"""A TCP port in front of PostgreSQL's socket that can fall silent: nothing arrives any longer, and no connection ends."""

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit


class Relay:
    """Passes bytes on until `cut`. `url` is that of the same database through the relay."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        folder = parse_qs(parts.query)["host"][0]
        self._target = str(Path(folder) / ".s.PGSQL.5432")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = [self._listener]
        self._is_cut = False
        port = self._listener.getsockname()[1]
        self.url = f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for end in self._ends:
            end.close()

    def cut(self) -> None:
        self._is_cut = True

    def passes(self, data: bytes, source: socket.socket, target: socket.socket) -> bool:
        """Whether these bytes are passed on; False also for all that come after them."""
        return True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            self._ends += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if self._is_cut or not self.passes(data, source, target):
                    return  # and both ends stay open
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
