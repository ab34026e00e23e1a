"""PgBouncer between the service and PostgreSQL: in session mode all works; in transaction mode `doctor` says what does not."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from quart_async_api.jobs.states import Status

from .conftest import Make, until
from .sample_tasks import running
from .test_checkup import faults, look

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(PGBOUNCER is None, reason="needs pgbouncer (apt-get install pgbouncer)"),
]


@pytest.fixture
def pooled(distributed_postgresql: str) -> Iterator[dict[str, str]]:
    """The URL of the database through a pooler, by its mode."""
    parts = urlsplit(distributed_postgresql)
    host, name = parse_qs(parts.query)["host"][0], parts.path[1:]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    target = f"host={host} dbname={name} user=postgres"
    owner = pwd.getpwuid(Path(host).stat().st_uid).pw_name
    as_owner = ("-u", owner) if os.geteuid() == 0 else ()  # it does not run as root, and must enter the socket's folder
    with tempfile.TemporaryDirectory(prefix="qaa-pooler-") as folder:
        file = Path(folder) / "pgbouncer.ini"
        file.write_text(
            f"[databases]\nsession = {target} pool_mode=session\ntransaction = {target} pool_mode=transaction\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\nunix_socket_dir =\n"
            "default_pool_size = 30\nignore_startup_parameters = extra_float_digits\n"
        )
        Path(folder).chmod(0o755)
        assert PGBOUNCER is not None
        process = subprocess.Popen([PGBOUNCER, *as_owner, str(file)], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if "process up" in line:
                    break
            yield {mode: f"postgresql://postgres@127.0.0.1:{port}/{mode}" for mode in ("session", "transaction")}
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


@pytest.mark.parametrize("job_engine", ["distributed"])
async def test_a_pooler_in_session_mode_is_as_good_as_the_server(pooled: dict[str, str], make: Make) -> None:
    one, other = [await make(engine=engine, database_url=pooled["session"]) for engine in (False, True)]
    job = await one.submit("hold")
    await until(lambda: job.id in running)
    await one.submissions.cancel(job.id)
    assert (await one.wait(job)).status is Status.CANCELLED
    assert (await one.run("double", number=1)).result == "2"
    assert (await other.run("double", number=2)).result == "4"
    assert await faults(pooled["session"], engine="distributed") == {}


@pytest.mark.parametrize("engine", ["embedded", "distributed"])
async def test_doctor_says_that_a_pooler_in_transaction_mode_is_none(pooled: dict[str, str], engine: str) -> None:
    found = await look(pooled["transaction"], engine=engine)
    assert "session mode" in found["notifications"].remedy
