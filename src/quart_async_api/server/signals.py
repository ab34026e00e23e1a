"""The signals that end `serve`, and their effect before the start."""

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

ENDING = (signal.SIGTERM, signal.SIGINT)


def is_heard(number: signal.Signals) -> bool:
    """Return False for a signal that is ignored: `nohup` ignores SIGHUP."""
    return signal.getsignal(number) is not signal.SIG_IGN


def leave_at_once() -> None:
    """Let each signal end the process with exit code 0: before the start, or after the end."""
    for number in (*ENDING, signal.SIGHUP):
        if number in ENDING or is_heard(number):
            signal.signal(number, _leave)


def let_go(loop: "AbstractEventLoop") -> None:
    """Take the signals from the loop, which has done what they asked for."""
    for number in (*ENDING, signal.SIGHUP):
        loop.remove_signal_handler(number)
    leave_at_once()


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)
