"""The table of a Kafka sink."""

import logging
import re
import string
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from bindings.event import Event, canonical_text, is_valid_name
from gateway.config.records import Duration, SinkConfig

_librdkafka = logging.getLogger(f"{__package__}.librdkafka")
_silent = _librdkafka.getChild("unasked")  # it logs each attempt to connect
_silent.setLevel(logging.CRITICAL + 1)

_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")  # what a broker takes for a topic's name

# What these would change is promised (order, durability) or has a field of its own.
_OWN_PROPERTIES: Final = re.compile(
    r"enable\.idempotence|enable\.gapless\.guarantee|(request\.required\.)?acks|transactional\.id"
    r"|bootstrap\.servers|metadata\.broker\.list|security\.protocol"
    r"|sasl\.(mechanisms?|username|password)|(delivery|message)\.timeout\.ms"
    r"|linger\.ms|queue\.buffering\.max\.ms|compression\.(codec|type)|delivery\.report\.only\.error"
    r"|ssl\.(ca|certificate|key)\.location|enable\.ssl\.certificate\.verification"
    r"|.*_cb|on_delivery|logger"
)


class TopicTemplate:
    """A topic's name, or one with attributes of the event in it: `events.{type}`.

    Raises:
        ValueError: it can't become a topic's name.
    """

    def __init__(self, text: str) -> None:
        pieces = list(string.Formatter().parse(text))
        self._text = text
        self._pieces = [(literal, name) for literal, name, _, _ in pieces]
        self._names = tuple(name for _, name in self._pieces if name is not None)
        for literal, name, form, conversion in pieces:
            if literal and not _TOPIC.fullmatch(literal):
                raise ValueError("a topic's name has 1 to 249 letters, digits, '.', '_' and '-'")
            if name is not None and (form or conversion or not is_valid_name(name)):
                raise ValueError(f"{{{name}}} is no attribute's name")
        if not pieces:
            raise ValueError("a topic's name must not be empty")

    @property
    def fixed(self) -> str | None:
        """The topic of every event; None if it depends on the event."""
        return None if self._names else self._text

    def fill(self, event: Event) -> str:
        """Return the topic of an event.

        Raises:
            ValueError: the event lacks an attribute, or holds one that fits no topic's name.
        """
        if not self._names:
            return self._text
        attributes = event.attributes()
        missing = [name for name in self._names if name not in attributes]
        if missing:
            raise ValueError(f"the event has no {missing[0]} for the topic's name")
        topic = "".join(
            literal + ("" if name is None else canonical_text(attributes[name]))
            for literal, name in self._pieces
        )
        if not _TOPIC.fullmatch(topic):
            raise ValueError(f"no topic can be named {topic[:200]!r}")
        return topic


class KafkaSinkConfig(SinkConfig):
    """Records in a topic of Apache Kafka, or of anything that speaks its protocol."""

    protocol: Literal["kafka"] = Field(description="kafka")
    bootstrap_servers: str = Field(
        min_length=1, description="host:port of one or more brokers, separated by commas"
    )
    topic: str = Field(
        description="the topic; attributes of the event may stand in it, as in events.{type}"
    )
    mode: Literal["structured", "binary"] = Field(
        "structured",
        description="structured: the event as JSON; binary: data as value, attributes as headers",
    )
    key: str = Field(
        "none",
        description="the record's key, which chooses the partition: none; order (partitionkey, "
        "else source, which is what the gateway keeps order by); or an attribute's name, such as "
        "partitionkey (no key for an event without it)",
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="how username and password are shown to the broker"
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        "none", description="codec of record batches"
    )
    # Lists have gathered already while others were under way: longer saves no CPU time at any rate.
    linger: Duration = Field(0.001, description="how long to gather records into one request")
    timeout: Duration = Field(
        30.0, description="for a record to be confirmed; a route's delivery.timeout wins"
    )
    properties: dict[str, bool | int | float | str] = Field(
        {}, description="further settings of librdkafka, by its own names"
    )

    @field_validator("topic")
    @classmethod
    def _check_topic(cls, value: str) -> str:
        TopicTemplate(value)
        return value

    @field_validator("key")
    @classmethod
    def _check_key(cls, value: str) -> str:
        if not is_valid_name(value):
            raise ValueError("expected none, order or an attribute's name")
        return value

    @field_validator("properties")
    @classmethod
    def _check_properties(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if _OWN_PROPERTIES.fullmatch(name):
                raise ValueError(f"{name} is the gateway's to set, or has a field in this table")
        return value


ONE_BY_ONE: Final[Mapping[str, Any]] = {
    "batch.num.messages": 1,
    "max.in.flight.requests.per.connection": 1,
    "enable.gapless.guarantee": False,
    "linger.ms": 0,
}
"""Settings that give each record an answer of its own, and order too, but slowly."""


def librdkafka_settings(config: KafkaSinkConfig, timeout: float) -> dict[str, Any]:
    """Return the settings of a producer whose records time out after `timeout` seconds."""
    milliseconds = max(1, round(timeout * 1000))
    settings: dict[str, Any] = {
        "client.id": "ce-gateway",
        "partitioner": "murmur2_random",  # the Java client's, so that keys meet in partitions
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 2000,
        **config.properties,
        "bootstrap.servers": config.bootstrap_servers,
        "enable.idempotence": True,
        # A batch that fails ends the producer, so that nothing behind it overtakes it.
        "enable.gapless.guarantee": True,
        "acks": "all",
        "compression.type": config.compression,
        "linger.ms": min(config.linger * 1000, milliseconds - 1),
        "delivery.timeout.ms": milliseconds,
        "security.protocol": "SSL" if config.tls else "PLAINTEXT",
        "logger": _librdkafka if config.properties.keys() & {"debug", "log_level"} else _silent,
    }
    if config.username is not None:
        settings["security.protocol"] = "SASL_SSL" if config.tls else "SASL_PLAINTEXT"
        settings["sasl.mechanism"] = config.sasl_mechanism
        settings["sasl.username"] = config.username
        settings["sasl.password"] = config.password.get_secret_value() if config.password else ""
    if config.tls:
        settings["enable.ssl.certificate.verification"] = config.tls.verify is not False
        files = {
            "ssl.ca.location": config.tls.ca,
            "ssl.certificate.location": config.tls.cert,
            "ssl.key.location": config.tls.key or config.tls.cert,
        }
        settings.update({name: str(path) for name, path in files.items() if path is not None})
    return settings
