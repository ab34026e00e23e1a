"""The database: its URL, its connection for the life of a process, its tables and their migrations."""

from ..quick_imports import without_sources

with without_sources():  # 5 MB and a twentieth of a second: Tortoise would parse its own source, and that of each model
    from . import models as models
