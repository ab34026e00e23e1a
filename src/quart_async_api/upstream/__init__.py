"""Calls to other services, with deadlines, retries and limits."""

from ..quick_imports import without_module

with without_module("httpx._main"):  # 3 MB: its command line, with all of rich and pygments
    import httpx as httpx
