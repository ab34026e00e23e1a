"""QAA_APP: the function that makes the app, and one clear line for whatever is wrong with it."""

from pathlib import Path

import pytest

from quart_async_api import Settings
from quart_async_api.errors import SettingsError
from quart_async_api.loading import load_app, load_service

SHOP = """
from quart_async_api import Settings, TaskContext, create_app, task

@task("pack")
async def pack(ctx: TaskContext, *, order: int) -> int:
    return order

def make_app(settings: Settings | None = None):
    return create_app(settings, tutorial=False, tasks=[pack])

def make_another(settings):
    return create_app(settings.model_copy(update={"job_concurrency": 7}), tasks=[pack, pack])

async def make_later(settings):
    return create_app(settings)

def make_nothing(settings):
    pass

def fail(settings):
    raise KeyError("SHOP_TOKEN")

def refuse(settings):
    return create_app(settings, tasks=[pack, task("pack")(pack.function)])

app = create_app(Settings())
number = 1

def make_alone():
    return app

def mistype(settings):
    @task("guess")
    async def guess(ctx: TaskContext, *, at: "Nowhere") -> int:
        return 1
"""


@pytest.fixture
def shop(tmp_path: Path) -> str:
    name = f"shop_{tmp_path.name.replace('-', '_')}"  # no other test has imported it
    (tmp_path / f"{name}.py").write_text(SHOP)
    return name


def test_all_commands_get_the_tasks_and_the_settings_of_the_app(shop: str) -> None:
    assert list(load_service(Settings(app=f"{shop}:make_app")).tasks) == ["pack", "jobs-bulk"]  # the service's own
    assert load_app(Settings(app=f"{shop}:make_another")).service.settings.job_concurrency == 7
    assert "start-task" in load_service(Settings()).tasks
    assert "start-task" in load_app(Settings()).service.tasks


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("make", r"the module shop_\w+ has no make$"),
        ("number", r"is no function of the settings: write def number\(settings\)"),
        ("app", r"is no function of the settings: write def app\(settings\)"),
        ("make_later", r"is no function of the settings: write def make_later\(settings\)"),
        ("make_alone", r"is no function of the settings: write def make_alone\(settings\)"),
        ("make_nothing", "returned NoneType: return what create_app"),
        ("fail", r"raised KeyError: 'SHOP_TOKEN' \(.*shop_\w+\.py:21\)$"),
        ("refuse", "two tasks are named 'pack'"),
        ("mistype", r"raised TypeError: task 'guess': .*: name 'Nowhere' is not defined \(.*shop_\w+\.py:33\)$"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(shop: str, function: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        load_service(Settings(app=f"{shop}:{function}"))
    assert "\n" not in str(refused.value)


def test_a_module_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"^QAA_APP: nowhere\.app:make: nowhere\.app cannot be imported: ModuleNot.*'nowhere'$"
    ):
        load_app(Settings(app="nowhere.app:make"))
    (tmp_path / "broken_shop.py").write_text("import os\nos.nothing\n")
    with pytest.raises(SettingsError, match=r"broken_shop cannot be imported: AttributeError: .*broken_shop\.py:2\)$"):
        load_app(Settings(app="broken_shop:make_app"))


@pytest.mark.parametrize("name", ["shop", "shop:", ":make_app", "shop/app:make_app", "shop:make-app"])
def test_a_name_that_is_no_module_and_function_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"QAA_APP: must name a function of a module, like shop\.app:make_app"):
        Settings.from_environment({"QAA_APP": name})
