"""Servers as tests/process starts them."""

from tests.process.conftest import start

__all__ = ["start"]
