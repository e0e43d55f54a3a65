"""The `mqtt-endpoint` table among the sources."""

from typing import Self

from pydantic import Field, SecretStr, model_validator

from gateway.config.records import Address, Duration, Listen, SourceConfig
from gateway.config.worker import Place


class MqttEndpointConfig(SourceConfig):
    """Where devices connect, and who may."""

    listen: Listen = Field(
        default=Address("127.0.0.1", 1883), description="address and port; with `tls` usually 8883"
    )
    users: dict[str, SecretStr] = Field(
        default={},
        description="name and password of each who may connect; without it anyone on this machine "
        "may, or with `tls.ca` whoever has a certificate (its common name is the device)",
    )
    max_connections: int = Field(
        default=10000, ge=1, description="connections at once, and sessions kept; more are closed"
    )
    connect_timeout: Duration = Field(
        default=10.0, gt=0, description="time from the connection to CONNECT"
    )
    receive_maximum: int = Field(
        default=100, ge=1, le=65535, description="unacknowledged messages of one device"
    )
    session_expiry: Duration = Field(
        default=3600.0, ge=0, description="longest time a session is kept without a connection"
    )
    stall_timeout: Duration = Field(
        default=60.0,
        gt=0,
        description="a device whose messages find no room for that long, or that takes no answers, "
        "is disconnected (0x97)",
    )

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if not (self.listen.is_loopback or self.users or self.demands_certificate):
            raise ValueError(
                "users is needed, or tls with ca: without either anyone may connect, "
                "and that only on loopback"
            )
        return self

    def for_worker(self, place: Place) -> Self | None:
        return self.listening_beside(place)

    @property
    def demands_certificate(self) -> bool:
        """Whether a device has to show a certificate."""
        return self.tls is not None and self.tls.demands_certificate
