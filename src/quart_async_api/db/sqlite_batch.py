"""Runs the units of a batch on SQLite, in one transaction and in one visit to its thread."""

import sqlite3
from collections.abc import Callable
from typing import Any

from .group_commit import InStep, Last, Result, Statement, Try, Unit


def run(connection: sqlite3.Connection, makes: list[Callable[[], Unit[Any]]]) -> list[Any]:
    """Run the units that `makes` return, and commit. Return their outcomes."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = run_within(connection, makes)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return outcomes


def run_within(connection: sqlite3.Connection, makes: list[Callable[[], Unit[Any]]]) -> list[Any]:
    """Do the same in a transaction that others have begun, and end."""
    cursor = connection.cursor()
    cursor.row_factory = None  # tuples: a sqlite3.Row searches for each of its names
    columns: dict[str, list[str]] = {}  # by statement: to make them costs as much as a short statement

    def execute(statement: Statement) -> Result:
        cursor.execute(*statement)
        names = columns.get(statement[0])
        if names is None:
            names = columns[statement[0]] = [column[0] for column in cursor.description or ()]
        if not names:
            return Result(cursor.rowcount, [])
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
        return Result(len(rows), rows)

    def outcome(unit: Unit[Any]) -> Any:
        try:
            step = next(unit)
            while True:
                if isinstance(step, Last | Try):
                    step = unit.send(Result(1, []))
                elif isinstance(step, tuple):
                    step = unit.send(execute(step))
                elif isinstance(step, InStep):
                    step = unit.send(Result(len(step.units), [outcome(each) for each in step.units]))
                else:
                    step = unit.send(Result(0, []))
        except StopIteration as end:
            return end.value

    return [outcome(make()) for make in makes]
