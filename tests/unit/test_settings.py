"""Settings: read from the environment, checked at start."""

from pathlib import Path

import pytest

from quart_async_api import Settings, create_app
from quart_async_api.errors import SettingsError
from quart_async_api.settings import variable


def test_there_is_a_default_for_everything() -> None:
    assert Settings.from_environment({}) == Settings()


def test_a_file_is_read_and_the_environment_goes_before_it(tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    file.write_text("QAA_DELAY=1\nQAA_UPSTREAM_CONCURRENCY=7\nOTHER=x\n")
    settings = Settings.from_environment({"QAA_DELAY": "2"}, file)
    assert (settings.delay, settings.upstream_concurrency) == (2, 7)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"DATABASE_URL": "sqlite://a.db"}, "sqlite://a.db"),
        ({"DATABASE_URL": "sqlite://a.db", "QAA_DATABASE_URL": "sqlite://b.db"}, "sqlite://b.db"),
        ({"DATABASE_URL": "sqlite://a.db", "QAA_DATABASE_URL": ""}, "sqlite://a.db"),
    ],
)
def test_database_url_is_read_where_ours_is_not_set(environ: dict[str, str], expected: str) -> None:
    assert Settings.from_environment(environ).database_url == expected


def test_an_empty_value_means_the_default() -> None:
    assert Settings.from_environment({"QAA_DELAY": ""}).delay == 5.0


def test_lists_are_separated_by_commas() -> None:
    assert Settings.from_environment({"QAA_ALLOWED_HOSTS": "a.example, .b.example,"}).allowed_hosts == (
        "a.example",
        ".b.example",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QAA_DELAY", "soon"),
        ("QAA_DELAY", "-1"),
        ("QAA_DELAY", "nan"),
        ("QAA_DELAY", "inf"),
        ("QAA_UPSTREAM_CONCURRENCY", "0"),
        ("QAA_UPSTREAM_CONCURRENCY", "1.5"),
        ("QAA_UPSTREAM_TIMEOUT", "0"),
        ("QAA_COMIC_BASE_URL", "xkcd.com"),
        ("QAA_COMIC_BASE_URL", "ftp://xkcd.com"),
        ("QAA_COMIC_BASE_URL", "http://[::1"),
        ("QAA_EXTERNAL_API_URL", "http://"),
        ("QAA_TRUSTED_PROXIES", "10.0.0.0/99"),
        ("QAA_RATE_LIMIT", "600"),
        ("QAA_RATE_LIMIT", "0/minute"),
        ("QAA_RATE_LIMIT", "10/day"),
        ("QAA_CORS_ORIGINS", "*"),
        ("QAA_CORS_ORIGINS", "null"),
        ("QAA_CORS_ORIGINS", "app.example.com"),
        ("QAA_CORS_ORIGINS", "https://app.example.com/"),
        ("QAA_CORS_ORIGINS", "https://app.example.com:443"),
        ("QAA_CORS_ORIGINS", "https://a.example,https://user@app.example.com"),
        ("QAA_CORS_ORIGINS", "http://[::1"),
        ("QAA_LOG_FORMAT", "xml"),
        ("QAA_LOG_LEVEL", "loud"),
        ("QAA_ALLOW_ANONYMOUS", "perhaps"),
        ("QAA_MAX_BODY_BYTES", "10"),
        ("QAA_DELAYS", "5"),
        ("QAA_", "5"),
    ],
)
def test_a_wrong_value_or_an_unknown_name_is_one_line_that_names_it(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}[ =:]") as caught:
        Settings.from_environment({name: value})
    assert "\n" not in str(caught.value)


SECRET = "s3cret-pa55word"  # noqa: S105 - it is none


@pytest.mark.parametrize("name", sorted(variable(field) for field in Settings.model_fields))
@pytest.mark.parametrize(
    "wrong",
    [
        f"htps://user:{SECRET}@example.com/",
        f"http://user:{SECRET}@[::1",
        f"https://user:{SECRET}@example.com:99999999/,x",
        f"postgresql://user:{SECRET}?{SECRET}={SECRET}@host/name",
        SECRET,
    ],
)
def test_the_password_in_a_wrong_value_was_shown(name: str, wrong: str) -> None:
    shown = ""
    try:
        settings = Settings.from_environment({name: wrong})
        shown = f"{settings} {settings!r}"
        create_app(settings)
    except SettingsError as error:
        shown += str(error)
    assert SECRET not in shown


def test_an_unknown_name_in_the_file_is_one_too(tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    file.write_text("QAA_TYPO=1\n")
    with pytest.raises(SettingsError, match="QAA_TYPO"):
        Settings.from_environment({}, file)


def test_settings_made_in_code_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QAA_DELAY", "1")
    assert Settings().delay == 5.0
