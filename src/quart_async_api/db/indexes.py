"""An index of some rows of a table: a row outside costs nothing to write."""

from typing import Any

from tortoise.indexes import Index


class PartialIndex(Index):
    """An index of the rows for which the SQL condition `where` holds. Queries need the same condition to use it."""

    def __init__(self, *, fields: list[str] | tuple[str, ...], name: str, where: str) -> None:
        super().__init__(fields=fields, name=name)
        self.where = where
        self.extra = f" WHERE {where}"

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        path, args, arguments = super().deconstruct()
        return path, args, arguments | {"where": self.where}
