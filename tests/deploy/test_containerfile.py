"""Each line of deploy/Containerfile, here and in a new project, taken in an empty folder instead of a container."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.deploy.test_compose import free_port
from tests.process.conftest import CHECKOUT, assert_clean
from tests.server_process import PROGRAM, ServerProcess, environment

pytestmark = [pytest.mark.process, pytest.mark.soak, pytest.mark.timeout(1200)]  # they install everything
OF_THE_IMAGE = re.compile(r"(?<![\w.])/(?:opt|var/lib|build)\b")
SLOW = ("PIP_NO_CACHE_DIR", "UV_NO_CACHE", "UV_COMPILE_BYTECODE")  # what takes the longest, and changes no outcome


def instructions(source: Path) -> Iterator[tuple[str, str]]:
    lines = [
        line for line in (source / "deploy/Containerfile").read_text().splitlines() if line and not line.startswith("#")
    ]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, value = line.partition(" ")
        yield name, value


@dataclass
class Stage:
    """A stage of the file. `root` is its empty folder; absolute paths of the image are below it."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    folder: Path = Path("/")
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    user: str = "root"

    def here(self, text: str) -> str:
        return OF_THE_IMAGE.sub(lambda path: f"{self.root}{path[0]}", text)

    def place(self, path: str) -> Path:
        return Path(self.here(path)) if path.startswith("/") else self.folder / path

    @property
    def settings(self) -> dict[str, str]:
        return {"PYTHONPATH": "", **{name: value for name, value in self.variables.items() if name not in SLOW}}

    def run(self, command: str | tuple[str, ...]) -> str:
        words = ("sh", "-euc", command) if isinstance(command, str) else command
        ended = subprocess.run(
            words, cwd=self.folder, env=environment(**self.settings), capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        return ended.stdout


def follow(source: Path, tmp_path: Path) -> Stage:
    """Take all steps, in the folder `source`. Return the last stage: of the others it has what it has copied."""
    root = tmp_path / "root"  # of each stage in turn: scripts name the folder that they were installed in
    # Where `python` is that of no virtual environment.
    path = f"{Path(sys.base_prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    stage = Stage(root)
    for name, value in instructions(source):
        if name == "FROM":
            assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+(?: AS build)?", value)
            if root.exists():
                root.rename(tmp_path / "build")
            root.mkdir()
            stage = Stage(root, {"PATH": path})
        elif name == "ENV":
            for each in shlex.split(value):
                key, _, text = each.partition("=")
                stage.variables[key] = stage.here(text).replace("$PATH", stage.variables["PATH"])
        elif name == "WORKDIR":
            stage.folder = stage.place(value)
            stage.folder.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            copy(stage, value.split(), source, tmp_path)
        elif name == "RUN":
            stage.run(stage.here(value).replace("10001", str(os.getuid())))
        elif name == "USER":
            stage.user = value
        elif name == "ENTRYPOINT":
            stage.entrypoint = tuple(json.loads(value))
        elif name == "CMD":
            stage.command = tuple(json.loads(value))
        elif name == "HEALTHCHECK":
            stage.check = tuple(json.loads(value.partition("CMD ")[2]))
        else:
            assert name in ("EXPOSE", "STOPSIGNAL"), name
    return stage


def copy(stage: Stage, words: list[str], source: Path, tmp_path: Path) -> None:
    if words[0] == "--from=build":
        source = tmp_path / "build"
        del words[0]
    target = stage.place(words[-1])
    for word in words[:-1]:
        into = target / word if words[-1] == "./" else target
        into.parent.mkdir(parents=True, exist_ok=True)
        found = source / word.lstrip("/")
        if found.is_dir():
            shutil.copytree(found, into, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(found, into)


def files(root: Path) -> dict[Path, float]:
    return {file: file.lstat().st_mtime for file in root.rglob("*") if "/var/" not in str(file)}


def check_image(image: Stage, root: Path) -> None:
    """It serves as an ordinary user, and writes nothing outside its folder of data."""
    assert image.user == "10001:10001"
    program = shutil.which(image.entrypoint[0], path=image.variables["PATH"])
    assert program is not None
    assert Path(program).is_relative_to(root)
    port = free_port()

    def here(words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(word.replace("0.0.0.0", "127.0.0.1").replace("8000", str(port)) for word in words)  # noqa: S104

    before = files(image.root)
    image.run((program, "migrate"))
    with ServerProcess(image.folder, image.settings, (program, *here(image.command))) as server:
        assert server.port == port
        image.run(here(image.check))
        assert server.stop() == 0
    assert_clean(server)
    assert files(image.root) == before
    with pytest.raises(AssertionError, match="Connection refused"):
        image.run(here(image.check))


def test_the_image_serves_as_an_ordinary_user_and_writes_nothing(tmp_path: Path) -> None:
    image = follow(CHECKOUT, tmp_path)
    check_image(image, tmp_path / "root/opt/quart-async-api")
    image.run(("python", "-c", "import procrastinate, prometheus_client"))  # the extras


def test_a_new_project_is_installed_from_an_index_checked_by_its_makefile_and_made_an_image(tmp_path: Path) -> None:
    project = tmp_path / "my-shop"
    made = Stage(tmp_path, folder=tmp_path)
    made.run((*PROGRAM, "new", "my-shop"))
    build = (sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(project / "wheels"))
    made.run((*build, str(CHECKOUT)))
    made.folder = project
    made.run(("make", "test", "lint"))
    shutil.rmtree(project / ".venv")
    image = follow(project, tmp_path)
    check_image(image, tmp_path / "root/opt/my-shop")
    assert image.run(("quart-async-api", "jobs", "submit", "greet", "name=Ada"))
