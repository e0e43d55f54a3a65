"""The configuration: records (`records`), and the file that fills them (`loader`)."""

from gateway.config.records import (
    Address,
    Duration,
    EventTemplate,
    LimitsConfig,
    Listen,
    Record,
    SinkConfig,
    Size,
    SourceConfig,
    TlsConfig,
)

__all__ = [
    "Address",
    "Duration",
    "EventTemplate",
    "LimitsConfig",
    "Listen",
    "Record",
    "SinkConfig",
    "Size",
    "SourceConfig",
    "TlsConfig",
]
