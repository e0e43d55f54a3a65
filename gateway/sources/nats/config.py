"""The `nats` table among the sources."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from gateway.config.records import Duration, Size, SourceConfig
from gateway.config.worker import Place
from gateway.nats_connection import NatsServerConfig

_SUBJECT = re.compile(r"[^\s.]+(?:\.[^\s.]+)*")
_NAME = re.compile(r"[^\s.*>/\\]+")


class NatsSourceConfig(NatsServerConfig, SourceConfig):
    """Where messages come from: core subjects, or a stream's durable consumer."""

    subjects: list[str] = Field(
        [],
        description="subjects, wildcards allowed; with `stream` the consumer's filter, default all",
    )
    queue: str = Field(
        "", description="core: queue group, so that several gateways share the subjects"
    )
    stream: str = Field("", description="JetStream: the stream; absent means core NATS")
    durable: str = Field(
        "",
        description="JetStream: the durable consumer, the same for each replica; one that exists "
        "must be pulled from, with explicit acknowledgement and max_deliver -1",
    )
    shared: bool = Field(
        default=False,
        description="JetStream: other processes read with this durable, too. If not, a new process "
        "lets the consumer begin again at what nobody acknowledged, so that the order of keys "
        "outlives a kill; with others at work that would take from them what they have under way",
    )
    create: bool = Field(
        default=True, description="JetStream: create the consumer if it is missing"
    )
    ack_wait: Duration = Field(
        60.0,
        ge=1,
        description="JetStream: the server redelivers after this time without a sign from us",
    )
    max_ack_pending: int = Field(
        1000, ge=1, description="JetStream: messages under way at once, of all replicas together"
    )
    batch: int = Field(500, ge=1, le=10000, description="JetStream: messages asked for at once")
    max_pending_bytes: Size = Field(
        64 << 20, description="core: what waits in memory before messages are refused (`-ERR busy`)"
    )

    def for_worker(self, place: Place) -> Self | None:
        if place.is_retired:
            return None
        if place.is_alone:
            return self
        if self.stream:
            return self.model_copy(update={"shared": True})
        return self.model_copy(update={"queue": self.queue or f"{place.group}-{self.name}"})

    @field_validator("subjects")
    @classmethod
    def _check_subjects(cls, value: list[str]) -> list[str]:
        for subject in value:
            if not _SUBJECT.fullmatch(subject):
                raise ValueError(f"{subject!r} is no subject: words with dots between, no blanks")
        return value

    @field_validator("queue", "stream", "durable")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if value and not _NAME.fullmatch(value):
            raise ValueError(f"{value!r} is no name: no blanks, dots, wildcards or slashes")
        return value

    @model_validator(mode="after")
    def _check_way(self) -> Self:
        if bool(self.stream) != bool(self.durable):
            raise ValueError("stream and durable go together")
        if self.stream and self.queue:
            raise ValueError("queue is for core subjects; a durable consumer is shared by its name")
        if not self.stream and not self.subjects:
            raise ValueError("expected subjects, or stream and durable")
        return self
