"""Background tasks are kept, cancelled on close, and never die unseen."""

import asyncio
import gc
import logging

import pytest

from gateway.tasks import Tasks


@pytest.fixture
def failed(monkeypatch):
    event = asyncio.Event()
    monkeypatch.setattr(Tasks, "failed", event)
    return event


async def test_work_runs_in_the_background_until_its_end(failed, caplog):
    done = asyncio.Event()
    tasks = Tasks("source lab")

    async def work():
        done.set()

    tasks.start(work(), "work")
    assert not done.is_set()
    await tasks.ended()
    assert done.is_set()
    assert not failed.is_set()
    assert caplog.records == []


async def test_close_cancels_what_runs_and_waits_for_its_end(failed, caplog):
    tasks, steps = Tasks("source lab"), []

    async def work(name):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append(name)

    tasks.start(work("a"), "a")
    tasks.start(work("b"), "b")
    await asyncio.sleep(0)
    await tasks.close()
    assert sorted(steps) == ["a", "b"]
    assert not failed.is_set()
    assert caplog.records == []


async def test_task_that_dies_is_logged_with_its_traceback_and_stops_the_service(failed, caplog):
    tasks = Tasks("source lab")

    async def work():
        raise LookupError("no such topic")

    with caplog.at_level(logging.ERROR):
        tasks.start(work(), "reader")
        await asyncio.wait_for(failed.wait(), 5)
    (record,) = caplog.records
    assert record.getMessage() == "source lab: reader died"
    assert record.exc_info[0] is LookupError


async def test_death_of_one_leaves_the_others_running(failed, caplog):
    tasks, proceed, done = Tasks("source lab"), asyncio.Event(), asyncio.Event()

    async def dies():
        raise LookupError("no such topic")

    async def lives():
        await proceed.wait()
        done.set()

    tasks.start(dies(), "dies")
    tasks.start(lives(), "lives")
    await asyncio.wait_for(failed.wait(), 5)
    proceed.set()
    await asyncio.wait_for(done.wait(), 5)
    await tasks.close()
    assert len(caplog.records) == 1


async def test_task_that_dies_before_there_is_a_service_is_logged_all_the_same(monkeypatch, caplog):
    monkeypatch.setattr(Tasks, "failed", None)
    tasks = Tasks("sink log")

    async def work():
        raise LookupError("x")

    tasks.start(work(), "writer")
    await tasks.ended()
    await asyncio.sleep(0)  # the callback runs after the task has ended
    assert [record.getMessage() for record in caplog.records] == ["sink log: writer died"]


async def test_error_while_it_is_cancelled_is_not_lost(failed, caplog):
    tasks = Tasks("source lab")

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("while closing")

    tasks.start(work(), "reader")
    await asyncio.sleep(0)
    await tasks.close()
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == ["source lab: reader died"]
    assert failed.is_set()


async def test_task_that_nobody_else_holds_is_not_collected():
    tasks = Tasks("source lab")

    async def work():
        await asyncio.get_running_loop().create_future()  # nothing but the task refers to it

    tasks.start(work(), "lonely")
    await asyncio.sleep(0)
    gc.collect()
    assert "source lab: lonely" in {task.get_name() for task in asyncio.all_tasks()}
    await tasks.close()


async def test_tasks_carry_the_name_of_their_owner():
    tasks, names = Tasks("source lab"), []

    async def work():
        names.append(asyncio.current_task().get_name())

    tasks.start(work(), "reader")
    await tasks.ended()
    assert names == ["source lab: reader"]


async def test_close_of_nothing_returns():
    await Tasks("source lab").close()
    await Tasks("source lab").ended()
