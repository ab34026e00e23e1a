"""Durations are written in one way, in the settings and on the command line."""

import click
import pytest

from quart_async_api import Settings
from quart_async_api.commands.parameters import Duration
from quart_async_api.errors import SettingsError
from quart_async_api.moments import duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("0.5", 0.5), ("90s", 90), ("1.5m", 90), ("12h", 43_200), ("3650d", 315_360_000)]
)
def test_a_setting_and_an_option_read_the_same_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds
    assert Duration().convert(text, None, None) == seconds
    assert Settings.from_environment({"QAA_MAX_DELAY": text}).max_delay == seconds


@pytest.mark.parametrize(
    "text", ["soon", "d", "-1s", "1e3", "1e3s", " 7d", "7 d", "7D", "1w", "٣s", "3651d", "9" * 400]
)
def test_what_is_no_duration_is_one_in_neither(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration like 30, 90s, 15m, 12h or 7d"):
        duration(text)
    with pytest.raises(click.BadParameter, match="must be a duration"):
        Duration().convert(text, None, None)
    with pytest.raises(SettingsError, match=r"^QAA_MAX_DELAY: must be a duration"):
        Settings.from_environment({"QAA_MAX_DELAY": text})
