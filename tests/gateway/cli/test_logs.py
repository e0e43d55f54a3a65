import io
import json
import logging
import re

import pytest

from gateway.cli.logs import configure

log = logging.getLogger("gateway.sources.test")


@pytest.fixture
def lines():
    """Configure logging into a list of lines, and undo it afterwards."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}

    def start(log_format, level="info", **options):
        stream = io.StringIO()
        root.handlers = []  # pytest's own must not be closed by `force`
        configure(log_format, level, stream, **options)
        return lambda: stream.getvalue().splitlines()

    yield start
    root.level, root.handlers = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_text_lines_have_time_level_logger_and_our_keys(lines):
    read = lines("text")
    log.info("connected to %s", "bus", extra={"source": "plant", "reason": "two words"})
    (line,) = read()
    time, rest = line.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert rest == 'INFO gateway.sources.test: connected to bus source=plant reason="two words"'


def test_a_text_line_can_not_be_forged_by_a_line_break(lines):
    read = lines("text")
    log.warning("bad %s", "a\n2024-01-01T00:00:00.000Z INFO x: y")
    assert read()[1].startswith("  2024-")


def test_json_lines_are_one_object_each(lines):
    read = lines("json")
    log.error("lost\nit", extra={"sink": "kafka", "event_id": "é"})
    (line,) = read()
    entry = json.loads(line)
    del entry["time"]
    assert entry == {
        "level": "error",
        "logger": "gateway.sources.test",
        "message": "lost\nit",
        "sink": "kafka",
        "event_id": "é",
    }


def test_json_lines_hold_the_traceback(lines):
    read = lines("json")
    try:
        raise RuntimeError("why")
    except RuntimeError:
        log.exception("broken")
    assert "RuntimeError: why" in json.loads(read()[0])["exception"]


def test_the_level_hides_what_is_below_and_libraries_speak_from_warning_on(lines):
    read = lines("text", "info")
    log.debug("no")
    logging.getLogger("uvicorn").info("no")
    logging.getLogger("uvicorn").warning("yes")
    assert [line.split(": ")[1] for line in read()] == ["yes"]


def test_each_line_of_a_worker_says_which(lines):
    read = lines("json", worker=3)
    log.info("ready", extra={"source": "plant"})
    logging.getLogger("uvicorn").warning("a library's line")
    assert [json.loads(line)["worker"] for line in read()] == [3, 3]
    read = lines("text", worker=0)
    log.info("ready", extra={"source": "plant"})
    assert read()[0].endswith("ready worker=0 source=plant")
