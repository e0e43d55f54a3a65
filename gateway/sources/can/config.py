"""The `can` table among the sources."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self

from pydantic import Field, field_validator, model_validator

from bindings.can import CanBinding, parse_dbc
from gateway.config.records import Record, SourceConfig
from gateway.config.suggest import did_you_mean, one_of

_OWN_KEYS: Final = {
    "interface": "interface",
    "channel": "channel",
    "bitrate": "bitrate",
    "fd": "fd",
    "can_filters": "filters",
}


class CanFilter(Record):
    """Which frames to take: those whose id agrees with `id` in every bit that `mask` has."""

    id: int = Field(ge=0, le=0x1FFFFFFF, description="arbitration id, such as 0x123")
    mask: int | None = Field(
        None, ge=0, le=0x1FFFFFFF, description="bits of `id` that count; default: all of them"
    )
    extended: bool = Field(default=False, description="frames with 29-bit ids, not 11-bit ones")

    @model_validator(mode="after")
    def _check_bits(self) -> Self:
        if self.id > 0x7FF and not self.extended:
            raise ValueError(f"id {self.id:#x} has more than 11 bits; is `extended: true` missing?")
        return self


class CanSourceConfig(SourceConfig):
    """A CAN or CAN FD bus, read through python-can."""

    interface: str = Field(
        "socketcan",
        description="python-can's name of the driver: socketcan (Linux), virtual (within one "
        "process, for tests), pcan, kvaser, vector, slcan, ...",
    )
    channel: str | int = Field(
        description="which bus of that interface, such as can0; it stands in the events' source",
    )
    bitrate: int | None = Field(
        None,
        ge=1,
        description="bits per second; not for socketcan, where `ip link set can0 type can bitrate` "
        "sets it",
    )
    fd: bool = Field(default=False, description="take CAN FD frames too")
    filters: list[CanFilter] = Field(
        [], description="which frames to take, by the kernel or the driver if it can; default: all"
    )
    dbc: list[Path] = Field(
        [],
        description="DBC files; a frame that one of them describes becomes an event with its "
        "signals in JSON",
    )
    queue: int = Field(
        10_000,
        ge=1,
        description="frames that wait here while sinks are slow or down; beyond it new frames are "
        "dropped and counted (`busy`), as CAN can't tell a sender to wait",
    )
    options: dict[str, str | int | float | bool] = Field(
        {}, description="more arguments of the interface's bus, by python-can's names"
    )

    @model_validator(mode="before")
    @classmethod
    def _check_installed(cls, values: Any) -> Any:
        if find_spec("can") is None or find_spec("cantools") is None:
            raise ValueError(
                "CAN needs python-can and cantools: pip install 'cloudevents-gateway[can]'"
            )
        return values

    @field_validator("interface")
    @classmethod
    def _check_interface(cls, value: str) -> str:
        import can  # noqa: PLC0415 - optional: only who has such a source needs it

        if value not in can.VALID_INTERFACES:
            known = sorted(can.VALID_INTERFACES)
            text = f"unknown interface {value!r}, expected {one_of(known)}"
            raise ValueError(text + did_you_mean(value, known))
        return value

    @field_validator("channel")
    @classmethod
    def _check_channel(cls, value: str | int) -> str | int:
        if value == "":
            raise ValueError("expected the name of a channel")
        return value

    @field_validator("options")
    @classmethod
    def _check_options(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in sorted(value.keys() & _OWN_KEYS.keys()):
            raise ValueError(f"{name!r} is the key {_OWN_KEYS[name]!r} of this source")
        return value

    @model_validator(mode="after")
    def _can_decode(self) -> Self:
        self.binding()
        return self

    def binding(self) -> CanBinding:
        """Return the codec with the databases of `dbc`.

        Raises:
            ValueError: a file can't be read, is no DBC database, or describes a message again.
        """
        wrapper = None if self.event is None else self.event.wrapper()
        if not self.dbc:
            return CanBinding(wrapper=wrapper)
        texts = [_read(path) for path in self.dbc]
        try:
            return CanBinding(parse_dbc(texts), wrapper)
        except ValueError as error:
            raise ValueError(f"dbc {', '.join(map(str, self.dbc))}: {error}") from None


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"dbc {path} can't be read: {error.strerror}") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:  # what most tools write
        return content.decode("cp1252", "replace")
