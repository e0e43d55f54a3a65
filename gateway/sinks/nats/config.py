"""The table of a NATS sink."""

from typing import Literal

from pydantic import Field, field_validator

from bindings.binding import ContentMode
from gateway.config.records import Duration, SinkConfig
from gateway.nats_connection import NatsServerConfig
from gateway.sinks.nats.subject import SubjectTemplate


class NatsSinkConfig(NatsServerConfig, SinkConfig):
    """A JetStream stream to publish to."""

    subject: str = Field(
        "events.{type}",
        description="subject, one that the stream listens on; {attribute} stands for an attribute, "
        "`_` for one that is missing",
    )
    mode: ContentMode = Field("structured", description="structured (JSON) or binary (headers)")
    stream: str = Field(
        "", description="refuse to store in any other stream (Nats-Expected-Stream)"
    )
    batch: Literal["auto", "atomic", "off"] = Field(
        "auto",
        description="atomic batches, which are stored whole or not at all and so keep order when "
        "something fails; auto: if the stream allows them (`allow_atomic`, nats-server 2.12); "
        "atomic: without asking, and never without; off: each event by itself",
    )
    timeout: Duration = Field(
        30.0,
        gt=0,
        description="for the stream's acknowledgement; a route's delivery.timeout wins",
    )

    @field_validator("subject")
    @classmethod
    def _check_subject(cls, value: str) -> str:
        SubjectTemplate(value)
        return value

    @field_validator("stream")
    @classmethod
    def _check_stream(cls, value: str) -> str:
        if not (value.isascii() and (not value or value.isprintable())):
            raise ValueError("the stream's name goes into a header, which takes printable ASCII")
        return value
