"""deploy/compose.yaml and the configuration of nginx: the same commands with the same settings, without containers."""

import asyncio
import io
import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml  # type: ignore[import-untyped]

from quart_async_api.http.delivery.prefer import WAIT_LIMIT
from quart_async_api.moments import duration
from quart_async_api.settings import Settings, variable
from tests.postgresql import PostgreSQL
from tests.process.conftest import CHECKOUT, assert_clean
from tests.server_process import PROGRAM, ServerProcess, run

DEPLOY = CHECKOUT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("migrate", "api1", "api2", "worker")
SITE = (DEPLOY / "nginx" / "quart-async-api.conf").read_text()
UPSTREAM = (DEPLOY / "nginx" / "upstream.compose.conf").read_text()
PAGE = CHECKOUT / "docs" / "how-to" / "deploy-with-compose.md"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
DEFAULTS = Settings()
JOBS, CLIENTS = 60, 4


def address(service: str) -> str:
    return str(SERVICES[service]["networks"]["service"]["ipv4_address"])


def directive(name: str, text: str = SITE) -> str:
    found = re.search(rf"^\s*{name} (\S+);", text, re.MULTILINE)
    assert found, name
    return found[1]


def test_the_settings_exist_and_belong_together() -> None:
    known = {variable(field) for field in Settings.model_fields}
    for name in OURS:
        assert set(SERVICES[name]["environment"]) <= known
        assert SERVICES[name]["environment"]["QAA_TRUSTED_PROXIES"] == address("nginx")
        assert SERVICES[name]["read_only"] is True
        assert duration(SERVICES[name]["stop_grace_period"]) > DEFAULTS.drain_seconds + DEFAULTS.cancel_seconds
    assert re.findall(r"server ([\d.]+):8000 ", UPSTREAM) == [address("api1"), address("api2")]
    for mounted in SERVICES["nginx"]["volumes"]:
        assert (DEPLOY / mounted.split(":")[0]).is_file()


def test_the_limits_of_nginx_are_wider_than_those_of_the_service() -> None:
    assert duration(directive("proxy_read_timeout")) > WAIT_LIMIT
    assert int(directive("client_max_body_size").removesuffix("m")) * 2**20 > DEFAULTS.max_body_bytes
    assert int(directive("large_client_header_buffers 4").removesuffix("k")) * 2**10 > DEFAULTS.max_header_bytes
    for name in ("upstream.conf", "upstream.compose.conf"):
        upstream = (DEPLOY / "nginx" / name).read_text()
        assert duration(re.findall(r"keepalive_timeout (\S+);", upstream)[0]) < DEFAULTS.header_timeout


@dataclass(frozen=True, slots=True)
class Fleet:
    """All processes of the file. `apis` are by the port at which nginx reaches them."""

    nginx: ServerProcess
    url: str
    apis: dict[str, ServerProcess]
    workers: list[ServerProcess]
    key: str

    @property
    def session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.url, headers={"Authorization": f"Bearer {self.key}"})

    def api_of(self, request_id: str) -> ServerProcess:
        """The process that got the request from nginx."""
        line = self.nginx.wait_for(rf"request_id={request_id} upstream=127\.0\.0\.1:(\d+)")
        return self.apis[line[1]]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL) -> Iterator[Fleet]:
    if NGINX is None:
        pytest.skip("there is no nginx")
    folder = tmp_path_factory.mktemp("fleet")
    with ExitStack() as stack:
        changed = {
            "QAA_DATABASE_URL": stack.enter_context(postgresql.database()),
            "QAA_TRUSTED_PROXIES": "127.0.0.1",
            "QAA_ALLOWED_HOSTS": "",
            "QAA_TASKS": "tests.process.job_tasks",
            "PYTHONPATH": str(CHECKOUT),
        }

        def settings(name: str) -> dict[str, str]:
            return {**SERVICES[name]["environment"], **changed}

        def command(name: str, port: int = 0) -> list[str]:
            return [re.sub(r"^[\d.]+:8000$", f"127.0.0.1:{port}", word) for word in SERVICES[name]["command"]]

        of_page = re.findall(r"^docker compose run --rm migrate (.+)$", PAGE.read_text(), re.MULTILINE)
        assert of_page[0].split() == command("migrate")
        for words in of_page:
            done = run((*PROGRAM, *words.split()), folder, settings("migrate"))
            assert done.returncode == 0, done.stderr
        key = done.stdout.strip()

        processes = {
            f"{name}{number}": stack.enter_context(ServerProcess(folder, settings(name), (*PROGRAM, *command(name))))
            for name in ("api1", "api2", "worker")
            for number in range(SERVICES[name].get("deploy", {}).get("replicas", 1))
        }
        assert len(processes) == 4
        apis = {name: processes[f"{name}0"] for name in ("api1", "api2")}
        port = free_port()
        nginx = stack.enter_context(nginx_before({address(name): api.port for name, api in apis.items()}, port, folder))
        nginx.wait_for("start worker process ")
        workers = [process for name, process in processes.items() if name.startswith("worker")]
        yield Fleet(nginx, f"http://127.0.0.1:{port}", {str(api.port): api for api in apis.values()}, workers, key)
    for process in processes.values():
        assert_clean(process)


def nginx_before(ports: dict[str, int], port: int, folder: Path) -> ServerProcess:
    """nginx with the files of deploy/nginx, in which addresses and ports alone are others."""
    upstream = UPSTREAM
    for address_, at in ports.items():
        upstream = upstream.replace(f"{address_}:8000", f"127.0.0.1:{at}")
    (folder / "upstream.conf").write_text(upstream)
    site = SITE.replace("listen 8080;", f"listen 127.0.0.1:{port};")
    (folder / "site.conf").write_text(site.replace("/var/log/nginx/access.log", "/dev/stdout"))
    kept = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""  # who may enter the folder
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log stderr notice;\n"
        f"events {{ worker_connections 256; }}\nhttp {{\n{kept}include site.conf;\ninclude upstream.conf;\n}}\n"
    )
    assert NGINX is not None
    return ServerProcess(folder, {}, (NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"))


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


@pytest.mark.slow
async def test_events_and_messages_pass_nginx_while_their_job_runs(fleet: Fleet, gate: Path) -> None:
    async with fleet.session as session:
        async with session.post("/jobs", json={"task": "gated", "args": {"gate": str(gate)}}) as response:
            job = await response.json()
            assert response.status == 202
        async with (
            session.get(job["links"]["events"], headers={"Accept": "text/event-stream"}) as stream,
            session.ws_connect(job["links"]["websocket"]) as messages,
        ):
            while await stream.content.readline() != b"event: snapshot\n":
                pass
            assert (await messages.receive_json())["event"] == "snapshot"
            await asyncio.to_thread(lambda: gate.open("w").close())  # the job waits for it
            assert b"event: succeeded\n" in [line async for line in stream.content]
            while (await messages.receive_json())["event"] != "succeeded":
                pass
            end = await messages.receive()
            assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, 1000)


@pytest.mark.slow
async def test_the_address_of_the_client_and_the_id_of_the_request_pass_nginx(fleet: Fleet) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Request-ID": "from-two"}
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with (
        aiohttp.ClientSession(fleet.url, connector=connector) as client,
        client.get("/health/live", headers=forged) as response,
    ):
        assert response.headers["X-Request-ID"] == "from-two"
    api = fleet.api_of("from-two")
    line = api.wait_for(r'.*"from-two".*\n')
    assert json.loads(line[0])["client"] == "127.0.0.2"


@pytest.mark.slow
async def test_a_body_that_is_too_large_is_a_problem_whoever_refuses_it(fleet: Fleet) -> None:
    async with fleet.session as session:
        for size, kind in ((3 * 2**19, "/problems/"), (3 * 2**20, "about:blank")):
            async with session.post("/jobs", data=io.BytesIO(b" " * size)) as response:
                assert (response.status, response.content_type) == (413, "application/problem+json")
                assert (await response.json(content_type=None))["type"].startswith(kind)


@pytest.mark.slow
async def test_nothing_is_lost_when_an_api_process_and_a_worker_are_killed_under_load(fleet: Fleet) -> None:
    accepted: list[str] = []
    half = asyncio.Event()

    async def submit(session: aiohttp.ClientSession) -> None:
        for _ in range(JOBS // CLIENTS):
            async with session.post("/jobs", json={"task": "where"}) as response:
                assert response.status in (202, 502)  # the one that was sent to the killed process
                if response.status == 202:
                    accepted.append((await response.json())["id"])
            if len(accepted) >= JOBS // 2:
                half.set()

    async with fleet.session as session:
        for number in range(4):
            async with session.get("/users", headers={"X-Request-ID": f"before-{number}"}) as response:
                assert response.status == 200
        assert {fleet.api_of(f"before-{number}").pid for number in range(4)} == {api.pid for api in fleet.apis.values()}

        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(submit(session))
            await half.wait()
            for killed in (next(iter(fleet.apis.values())), fleet.workers[0]):
                killed.send(signal.SIGKILL)
        assert len(accepted) > JOBS - 2 * CLIENTS
        for job_id in accepted:
            async with session.get(f"/jobs/{job_id}", headers={"Prefer": "wait=30"}) as response:
                assert (await response.json())["status"] == "succeeded"
