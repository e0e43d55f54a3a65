"""The `mqtt` table among the sources."""

from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from gateway.config.records import Duration, Record, SourceConfig
from gateway.config.worker import Place

_NO_SHARE_NAME: Final = str.maketrans("/+#", "___")


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
        default=30.0,
        ge=1,
        le=65535,
        description="longest time between two packets of ours; a broker that then says nothing "
        "for as long is given up",
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

    worker: Place | None = Field(
        default=None, exclude=True, description="which of the processes that share the messages"
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

    def for_worker(self, place: Place) -> Self | None:
        if place.number and not self._can_share:
            return None
        if place.is_retired and self.clean:  # there is no session that it could empty
            return None
        return self.model_copy(update={"worker": place})

    @property
    def _can_share(self) -> bool:
        """Whether several processes can share the messages, as far as we know."""
        return bool(self.share) or self.version == "5"

    @property
    def session_id(self) -> str:
        """The client identifier of the session: `client_id`, and the number of a further worker."""
        number = self.worker.number if self.worker is not None else 0
        return f"{self.client_id}-{number}" if number and self.client_id else self.client_id

    def topics(self, *, shares: bool) -> list[tuple[str, int]]:
        """Return what this process subscribes to, with the QoS.

        Args:
            shares: whether the broker has shared subscriptions.
        """
        place = self.worker
        if place is None or (place.is_alone and not place.is_retired):
            return self.filters
        if place.is_retired:
            return []
        if self.share:
            return self.filters
        if shares and self._can_share:
            return self._shared(place)
        return self.filters if place.number == 0 else []

    def left_over(self, topics: list[tuple[str, int]]) -> list[str]:
        """Return what a session may have from a run with another number of workers.

        Args:
            topics: what it has to have now.
        """
        if self.worker is None or not self._can_share:
            return []
        wanted = {name for name, _ in topics}
        known = dict.fromkeys(name for name, _ in (*self.filters, *self._shared(self.worker)))
        return [name for name in known if name not in wanted]

    def _shared(self, place: Place) -> list[tuple[str, int]]:
        """Return the topic filters as a share of all workers, which a configured one is already."""
        # A session outlives a run, and its share has to keep its name.
        group = self.client_id.translate(_NO_SHARE_NAME) or place.group
        return [
            (name if name.startswith("$share/") else f"$share/{group}/{name}", qos)
            for name, qos in self.filters
        ]

    @property
    def filters(self) -> list[tuple[str, int]]:
        """The topic filters as the broker sees them, with their QoS."""
        prefix = f"$share/{self.share}/" if self.share else ""
        return [(prefix + each.topic, each.qos) for each in self.subscribe]
