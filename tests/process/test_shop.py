"""The shop of `examples/` by its commands: `migrate`, `serve` and `worker`, in all deliveries."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue

import httpx
import pytest

from quart_async_api.client import Client, verify
from tests.process.conftest import CHECKOUT, assert_clean
from tests.server_process import PROGRAM, ServerProcess, run

pytestmark = pytest.mark.process

MAKE_APP = ("shop.app:make_app",)
ORDER = {"country": "SE", "lines": [{"article": "sencha"}]}
Callback = tuple[Mapping[str, str], bytes]


@contextmanager
def receiver() -> Iterator[tuple[str, "Queue[Callback]"]]:
    """A URL for callbacks, and those that have arrived."""
    arrived: Queue[Callback] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.put((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", arrived
        server.shutdown()
        thread.join()


def test_the_shop_sells_in_all_deliveries_and_its_worker_packs_what_it_has_sold(
    tmp_path: Path, distributed_postgresql: str
) -> None:
    settings = {
        "QAA_DATABASE_URL": distributed_postgresql,
        "QAA_JOBS_ENGINE": "distributed",
        "QAA_CALLBACK_ALLOW_PRIVATE": "1",
        "PYTHONPATH": str(CHECKOUT / "examples" / "shop" / "src"),
    }
    migrated = run((*PROGRAM, "migrate", *MAKE_APP), tmp_path, settings)
    assert migrated.stdout == "applied shop 0001_initial\n", migrated.stderr
    secret = run((*PROGRAM, "webhooks", "secret"), tmp_path, settings).stdout.strip()
    with ExitStack() as stack:
        at_any_port = (*MAKE_APP, "--bind", "127.0.0.1:0")
        server, worker = [
            stack.enter_context(ServerProcess(tmp_path, settings, (*PROGRAM, *command, *at_any_port)))
            for command in (("serve", "--no-jobs"), ("worker",))
        ]
        callback_url, arrived = stack.enter_context(receiver())
        http = stack.enter_context(httpx.Client(base_url=server.url, timeout=60))
        client = stack.enter_context(Client(server.url))

        assert http.get("/postage", params={"country": "SE", "grams": 600}).json() == {"cents": 690}
        offer = {"name": "Sencha", "price": 1200, "weight": 100, "stock": 4, "full": 10}
        assert http.put("/articles/sencha", json=offer).json() == offer

        orders = "/customers/7/orders"
        waited = http.post(orders, json=ORDER)
        assert waited.json() == {"order": 1, "price": 1590}
        accepted = http.post(orders, json=ORDER, headers={"Prefer": "respond-async"})
        assert accepted.status_code == 202
        assert client.result(accepted.json()["id"]) == {"order": 2, "price": 1590}
        streamed = http.post(orders, json=ORDER, headers={"Accept": "text/event-stream"})
        assert "event: succeeded" in streamed.text
        http.post(orders, json=ORDER, params={"callback_url": callback_url})
        received = verify(*arrived.get(timeout=60), secret)
        assert (received["type"], received["data"]["result"]) == ("job.succeeded", {"order": 4, "price": 1590})
        too_much = {"country": "SE", "lines": [{"article": "sencha", "count": 11}]}
        refused = http.post(orders, json=too_much)
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/out-of-stock")

        for number in range(1, 5):
            packing = http.get(f"/orders/{number}").json()["packing"].removeprefix("/jobs/")
            assert client.result(packing) == {"order": number, "label": f"SE{number:08}"}
        # Its schedule may have run it before, at two in the night.
        client.result(http.post("/tasks/restock/run").json()["id"])
        [article] = http.get("/articles").json()["items"]
        assert article["stock"] == 10
        assert (server.stop(), worker.stop()) == (0, 0)
    assert_clean(server)
    assert_clean(worker)
