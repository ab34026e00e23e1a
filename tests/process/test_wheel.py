"""The wheel, in an environment that has nothing but it and its locked dependencies, away from the checkout."""

import re
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest

from quart_async_api import __version__
from tests.deploy.test_systemd import ANALYZE, analyze
from tests.process.conftest import CHECKOUT, assert_clean
from tests.process.wire import get, post
from tests.server_process import ServerProcess, environment

pytestmark = pytest.mark.process

BUILT_FROM = ("src", "migrations", "project", "pyproject.toml", "hypercorn.toml", "README.md", "LICENSE")


def run(folder: Path, *command: str | Path, **settings: str) -> str:
    values = environment(**{"PYTHONPATH": "", **settings})
    ended = subprocess.run(command, cwd=folder, env=values, capture_output=True, text=True, timeout=500, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def known_to_git(*paths: str) -> list[str]:
    """The files that git has or would take."""
    return run(CHECKOUT, "git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *paths).splitlines()


def link(installed: Distribution, folder: Path) -> None:
    """Let an environment with `folder` in its path have what is installed in this one."""
    for top in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
        if not (folder / top).exists():
            (folder / top).symlink_to(Path(str(installed.locate_file(top))))


def link_with_requirements(names: Iterable[str], folder: Path) -> None:
    linked, missing = set[str](), set(names)
    while missing:
        linked |= missing
        lines = set[str]()
        for name in missing:
            with suppress(PackageNotFoundError):  # for another version of Python; pip would miss it if not
                found = distribution(name)
                link(found, folder)
                lines |= {line for line in found.requires or () if "extra ==" not in line}
        missing = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines} - linked


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git knows, so that nothing lying about gets in."""
    copy, built = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("built")
    for name in known_to_git(*BUILT_FROM):
        if (CHECKOUT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((CHECKOUT / name).read_bytes())
    run(copy, sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", built)
    [file] = built.iterdir()
    return file


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    """The pip of a new environment."""
    folder = tmp_path_factory.mktemp("environment")
    run(folder, sys.executable, "-m", "venv", folder)
    return (folder / "bin/python", "-m", "pip", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def installed(wheel: Path, pip: tuple[str | Path, ...]) -> Path:
    """The folder of the commands of the environment, with the wheel and the locked dependencies.

    They are those of this environment, which `make test` has installed with the same hashes (tests/unit/test_dependencies.py).
    """
    commands = Path(pip[0]).parent
    folder = Path(run(commands, pip[0], "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for name, version in re.findall(
        r"^([\w.-]+)==([\w.]+)", (CHECKOUT / "requirements/core.txt").read_text(), re.MULTILINE
    ):
        with suppress(PackageNotFoundError):  # for another platform; `pip check` would miss it if not
            found = distribution(name)
            assert found.version == version, name
            link(found, folder)
    # Not compiled: of what is installed, the service imports the least.
    run(commands, *pip, "install", "--quiet", "--no-compile", "--no-deps", "--no-index", wheel)
    run(commands, *pip, "check")
    imported = run(commands, pip[0], "-c", "import quart_async_api; print(quart_async_api.__file__)")
    assert Path(imported).is_relative_to(folder)
    return commands


@pytest.fixture
def server(installed: Path, tmp_path: Path, migrated_file: Path) -> Iterator[ServerProcess]:
    shutil.copy(migrated_file, tmp_path / "quart_async_api.db")
    command = (installed / "quart-async-api", "serve", "--bind", "127.0.0.1:0")
    with ServerProcess(tmp_path, {"QAA_DELAY": "0", "PYTHONPATH": ""}, command) as server:
        yield server
        assert server.stop() == 0, server.log
    assert_clean(server)


def test_the_wheel_carries_all_that_the_service_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        [offered] = [archive.read(name).decode() for name in packed if name.endswith("/entry_points.txt")]
    package = CHECKOUT / "src/quart_async_api"
    read = [path for name in ("templates", "static") for path in (package / "web" / name).rglob("*.*")]
    assert read
    expected = {f"quart_async_api/{path.relative_to(package)}" for path in read}
    expected |= {f"quart_async_api/migrations/{path.name}" for path in (CHECKOUT / "migrations").glob("*.py")}
    expected |= {
        f"quart_async_api/{name}" for name in ("data.json", "py.typed", "hypercorn.toml", "migrations/__init__.py")
    }
    expected |= {f"quart_async_api/{name}" for name in known_to_git("project")}
    assert expected - packed == set()
    assert "[pytest11]\nquart_async_api.testing.plugin = quart_async_api.testing.plugin\n" in offered
    assert [name for name in packed if not name.startswith(("quart_async_api/", "quart_async_api-"))] == []
    assert [name for name in packed if "__pycache__" in name] == []


def test_what_is_installed_from_the_wheel_serves(server: ServerProcess) -> None:
    port = server.port
    assert f"quart-async-api {__version__} listens on" in server.log
    created = post(port, "/add-user", {"username": "Ada", "email": "ada@example.com"})
    assert created.status == HTTPStatus.CREATED
    assert get(port, created.headers["Location"]).json == created.json["user"]
    assert "result" in get(port, "/get").json
    assert get(port, "/openapi.json").json["info"]["version"] == __version__
    for page in ("/", "/docs", "/problems/"):
        reply = get(port, page)
        assert (reply.status, reply.headers.get_content_type()) == (HTTPStatus.OK, "text/html"), page
    for file in (CHECKOUT / "src/quart_async_api/web/static").rglob("*.*"):
        target = f"/static/{file.relative_to(CHECKOUT / 'src/quart_async_api/web/static')}"
        assert get(port, target).body == file.read_bytes()


def test_the_page_about_postgresql_installed_from_an_index_that_has_no_such_package(
    wheel: Path, pip: tuple[str | Path, ...], tmp_path: Path
) -> None:
    page = (CHECKOUT / "docs/how-to/postgresql.md").read_text("utf-8")
    [command] = re.findall(r"^pip install (.+)$", page, re.MULTILINE)
    (tmp_path / "dist").symlink_to(wheel.parent)
    words = [*map(str, pip), "install", "--dry-run", "--ignore-installed", "--no-deps", "--no-index"]
    ended = subprocess.run(
        ("sh", "-c", f"{shlex.join(words)} {command}"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert "Would install quart-async-api-" in ended.stdout, ended.stderr
    assert "does not provide the extra" not in ended.stderr


def test_a_new_project_is_green_and_serves_what_its_readme_says(
    installed: Path, migrated_file: Path, tmp_path: Path
) -> None:
    """All of it by its own Makefile; pip takes what the project needs from this environment instead of an index."""
    printed = run(tmp_path, installed / "quart-async-api", "new", "my-shop")
    assert printed == "my-shop is made. Next:\n  cd my-shop\n  make test\n  make run\n"
    project, tools = tmp_path / "my-shop", tmp_path / "tools"
    tools.mkdir()
    link_with_requirements(("editables", "hatchling", "mypy", "pytest", "pytest-asyncio", "ruff", "watchfiles"), tools)
    settings = {"PYTHONPATH": str(tools), "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    make = ("make", f"VENV={installed.parent}", "BIND=127.0.0.1:0")
    assert "3 passed" in run(project, *make, "test", **settings)
    run(project, sys.executable, "-m", "ruff", "check", "--no-cache")
    run(project, sys.executable, "-m", "ruff", "format", "--no-cache", "--check")
    shutil.copy(migrated_file, project / "quart_async_api.db")
    with ServerProcess(project, {"PYTHONPATH": ""}, (*make, "run")) as server:
        replies = [
            post(server.port, "/greetings", {"name": "Ada"}),
            post(server.port, "/greetings", {"name": "Grace"}),
            get(server.port, "/greetings"),
        ]
        assert server.stop() == -signal.SIGTERM  # as make ends, when what it runs has ended
    assert "applied my_shop 0001_initial\n" in server.log
    assert_clean(server)
    with ServerProcess(project, {"PYTHONPATH": str(tools)}, (*make, "dev")) as server:
        assert get(server.port, "/greetings").body == replies[2].body
        (project / "src/my_shop/__init__.py").write_text("# changed\n")
        server.wait_for("replaced all processes")
        assert server.stop() == -signal.SIGTERM
    assert_clean(server)
    readme = (project / "README.md").read_text("utf-8")
    assert [reply.status for reply in replies] == [HTTPStatus.OK] * 3
    for reply in (replies[0], replies[2]):
        assert f"\n{reply.body.decode()}\n" in readme
    if ANALYZE is not None:
        unit = project / "deploy/my-shop.service"
        unit.write_text(unit.read_text("utf-8").replace("/opt/my-shop/bin", str(installed)), "utf-8")
        assert analyze("verify", "--man=no", unit) == ""
