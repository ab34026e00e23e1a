"""One row that cannot be read takes no other with it."""

import pytest

from quart_async_api import stored
from quart_async_api.errors import JobNotFound
from quart_async_api.jobs.states import Status

from .conftest import Make


@pytest.mark.parametrize(
    ("column", "garbage"),
    [("args", "{"), ("status", "'strange"), ("result", "]"), ("error", "nonsense"), ("progress", "x")],
)
async def test_one_unreadable_row_hides_no_other_in_the_list(make: Make, column: str, garbage: str) -> None:
    service = await make(engine=False)
    jobs = [await service.submit("double", number=number) for number in range(5)]
    bad = jobs[3]
    await service.database.client.execute_query(
        f"UPDATE jobs SET {column} = '{garbage.replace(chr(39), '')}' WHERE id = '{bad.id}'"  # noqa: S608
    )
    before = len(stored.unreadable)
    pages = []
    last = None
    while page := await service.store.reading.page(2, None, before=last):
        pages += [job.document(whole=False) for job in page]
        last = page[-1].id
    shown = {document["id"] for document in pages}
    assert shown == {job.id for job in jobs} - ({bad.id} if column == "status" else set())
    assert len(stored.unreadable) == before + 1
    assert any(bad.id in what for what in stored.unreadable)


async def test_a_page_behind_many_unreadable_rows_was_read_row_by_row(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await make(engine=False)
    ids = sorted([(await service.submit("double", number=number)).id for number in range(30)])
    readable = [*ids[:4], ids[-1]]
    await service.database.client.execute_query(
        "UPDATE jobs SET status = 'strange' WHERE id NOT IN "  # noqa: S608
        f"({', '.join(repr(id_) for id_ in readable)})"
    )
    asked, read = [], service.database.rows

    async def counted(sql: str, *values: object) -> list[tuple[object, ...]]:
        asked.append(sql)
        return await read(sql, *values)

    monkeypatch.setattr(service.database, "rows", counted)
    for limit, found in ((3, readable[-1:] + readable[3:1:-1]), (25, readable[::-1])):
        asked.clear()
        assert [job.id for job in await service.store.reading.page(limit, None)] == found
        assert len(asked) == 2


async def test_a_job_whose_arguments_cannot_be_read_fails_and_lets_the_others_run(make: Make) -> None:
    service = await make(engine=False)
    bad = await service.submit("double", number=1)
    await service.database.client.execute_query(f"UPDATE jobs SET args = 'no json' WHERE id = '{bad.id}'")  # noqa: S608
    await service.start_engine()
    assert (await service.run("double", number=1)).result == "2"
    ended = await service.wait(bad)
    assert ended.status is Status.FAILED
    assert ended.document()["args_omitted"] is True


async def test_a_list_reads_no_long_text(make: Make) -> None:
    service = await make(engine=False)
    job = await service.submit("double", number=1)
    long = '{"text": "' + "x" * 5_000 + '"}'
    await service.database.client.execute_query(
        f"UPDATE jobs SET args = '{long}', result = '{long * 4}' WHERE id = '{job.id}'"  # noqa: S608
    )
    [listed] = await service.store.reading.page(10, None)
    assert len(listed.args) + len(listed.result or "") == 0
    document = listed.document(whole=False)
    assert (document["args_omitted"], document["result_omitted"]) == (True, True)
    assert "args" not in document
    assert (await service.store.reading.get(job.id, None)).document()["args"] == {"text": "x" * 5_000}


async def test_an_id_with_nul_in_last_event_id_was_a_500(make: Make) -> None:
    service = await make(engine=False)
    with pytest.raises(JobNotFound):
        await service.store.reading.get("\0", None)
