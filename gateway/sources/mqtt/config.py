"""The `mqtt` table among the sources."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from gateway.config.records import Duration, Record, SourceConfig


class SubscriptionConfig(Record):
    """One topic filter."""

    topic: str = Field(description="topic filter, wildcards + and # allowed")
    qos: Literal[0, 1, 2] = Field(
        default=1, description="highest QoS; 0 may lose messages whenever the connection breaks"
    )

    @field_validator("topic")
    @classmethod
    def _check_topic(cls, value: str) -> str:
        levels = value.split("/")
        if not value or "\0" in value or len(value.encode()) > 65535:
            raise ValueError("expected a topic filter of 1 to 65535 bytes")
        if "#" in value[:-1] or any(len(each) > 1 and set(each) & {"+", "#"} for each in levels):
            raise ValueError("+ stands for a whole level, and # for all that follow, at the end")
        return value


class MqttSourceConfig(SourceConfig):
    """Which broker, which session, which topics."""

    url: str = Field(description="mqtt://host:port, or mqtts:// for TLS; ports 1883 and 8883")
    client_id: str = Field(
        default="",
        description="names the session at the broker, so each replica needs its own, "
        "the same after each start; may be empty only with `clean: true`",
    )
    version: Literal["5", "3.1.1"] = Field(default="5", description="MQTT version")
    clean: bool = Field(
        default=False, description="begin without a session: messages sent meanwhile are lost"
    )
    share: str = Field(default="", description="shared subscription: the group of the replicas")
    subscribe: list[SubscriptionConfig] = Field(min_length=1, description="topic filters")
    keep_alive: Duration = Field(
        default=30.0, ge=1, le=65535, description="a broker silent for that long is given up"
    )
    session_expiry: Duration = Field(
        default=86400.0,
        ge=0,
        le=0xFFFFFFFF,
        description="how long the broker keeps the session while we are away (MQTT 5)",
    )
    receive_maximum: int = Field(
        default=1000, ge=1, le=65535, description="unacknowledged messages; beyond it reading stops"
    )
    bare_json: bool = Field(
        default=False,
        description="MQTT 5: take a JSON event without a content type for an event, as brokers "
        "pass on what MQTT 3.1.1 publishers sent",
    )

    @field_validator("version", mode="before")
    @classmethod
    def _read_version(cls, value: object) -> object:
        return str(value) if value == 5 else value  # YAML reads `version: 5` as a number

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if (
            parts.scheme not in {"mqtt", "mqtts"}
            or not parts.hostname
            or parts.path not in {"", "/"}
        ):
            raise ValueError("expected mqtt://host:port or mqtts://host:port")
        if parts.username or parts.password:
            raise ValueError("use `username` and `password`, not the URL")
        _ = parts.port  # raises ValueError
        return value

    @field_validator("share")
    @classmethod
    def _check_share(cls, value: str) -> str:
        if set(value) & set("/+#\0"):
            raise ValueError("a share name holds no /, + or #")  # MQTT 5 section 4.8.2
        return value

    @model_validator(mode="after")
    def _check_session(self) -> Self:
        if not self.clean and not self.client_id:
            raise ValueError("client_id is needed to find the session again (or set clean: true)")
        if self.password is not None and self.username is None and self.version == "3.1.1":
            raise ValueError("MQTT 3.1.1 has no password without a username")
        return self

    @property
    def wants_tls(self) -> bool:
        """Whether the connection is TLS."""
        return self.tls is not None or self.url.startswith("mqtts:")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None  # noqa: S101 - checked above
        return parts.hostname, parts.port or (8883 if self.wants_tls else 1883)

    @property
    def filters(self) -> list[tuple[str, int]]:
        """The topic filters as the broker sees them, with their QoS."""
        prefix = f"$share/{self.share}/" if self.share else ""
        return [(prefix + each.topic, each.qos) for each in self.subscribe]
