"""CAN source: frames of a CAN or CAN FD bus, as bytes or as the signals of a DBC database."""

from gateway.sources.can.config import CanSourceConfig
from gateway.sources.can.source import CanSource

__all__ = ["CanSource", "CanSourceConfig"]
