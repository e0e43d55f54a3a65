"""Logging on stderr: lines for people or JSON lines for machines, configured here and only here."""

import json
import logging
import sys
import time
from typing import Final, Literal, TextIO

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_KEYS: Final = ("worker", "source", "sink", "route", "event_id", "outcome", "reason", "count")
"""What our own log calls put into `extra`."""


def configure(
    log_format: LogFormat,
    level: LogLevel,
    stream: TextIO | None = None,
    *,
    worker: int | None = None,
) -> None:
    """Send every logger's records to stderr, or to `stream`.

    Args:
        log_format: lines for people or for machines.
        level: the least severe records.
        stream: where to, if not stderr.
        worker: the number of this process, if it is one of several; each line says it.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    if worker is not None:

        def say_worker(record: logging.LogRecord) -> bool:
            record.worker = worker
            return True

        handler.addFilter(say_worker)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Libraries say at INFO what we say ourselves, once per state change.
    for name in ("uvicorn", "aiocoap", "coap", "nats", "paho", "asyncio"):
        logging.getLogger(name).setLevel(logging.INFO if level == "debug" else logging.WARNING)


class TextFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z INFO gateway.sources.mqtt: connected source=plant`."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {key}={_text(value)}" for key, value in _extra(record).items())
        message = record.getMessage().replace("\n", "\n  ")
        line = f"{_time(record)} {record.levelname} {record.name}: {message}{pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, our keys, exception."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    values = {key: getattr(record, key, None) for key in _KEYS}
    return {key: value for key, value in values.items() if value is not None}


def _text(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text and '"' not in text else json.dumps(text)


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
