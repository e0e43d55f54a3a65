"""The options of `ce-gateway send`, each with its help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Url = Annotated[str, typer.Argument(help="Where to; the scheme says which protocol.")]
EventType = Annotated[str, typer.Option("--type", help="Attribute type.")]
Source = Annotated[str, typer.Option(help="Attribute source.")]
EventId = Annotated[str | None, typer.Option("--id", help="Attribute id; none: a new UUID.")]
Subject = Annotated[str | None, typer.Option(help="Attribute subject.")]
Data = Annotated[str | None, typer.Option(help="Text, @FILE, or - for standard input.")]
DataContentType = Annotated[
    str | None, typer.Option(help="Media type of the data; none: as it looks.")
]
Extension = Annotated[
    list[str] | None,
    typer.Option("--extension", "-e", metavar="NAME=VALUE", help="Repeatable."),
]
Plain = Annotated[bool, typer.Option("--plain", help="Send the data as it is: no CloudEvent.")]
Mode = Annotated[Literal["binary", "structured"], typer.Option(help="Content mode.")]
Count = Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")]
Rate = Annotated[float | None, typer.Option(min=0.001, help="At most so many per second.")]
Concurrency = Annotated[
    int, typer.Option(min=1, help="How many may wait for their acknowledgement at once.")
]
Size = Annotated[
    int | None, typer.Option(min=1, help="Bytes of made-up JSON data, instead of --data.")
]
Devices = Annotated[
    int, typer.Option(min=0, help="Take turns as so many sources: SOURCE/0, SOURCE/1, ...")
]
QoS = Annotated[int, typer.Option(min=0, max=2, help="MQTT quality of service.")]
MqttVersion = Annotated[Literal["5", "3.1.1"], typer.Option(help="MQTT version.")]
Non = Annotated[bool, typer.Option("--non", help="CoAP: send non-confirmable.")]
JetStream = Annotated[
    bool, typer.Option("--jetstream", help="NATS: wait for the stream's acknowledgement.")
]
Username = Annotated[str | None, typer.Option(help="User name, of any protocol.")]
Password = Annotated[str | None, typer.Option(help="Its password.", envvar="CE_GATEWAY_PASSWORD")]
Token = Annotated[
    str | None, typer.Option(help="Token (NATS, HTTP bearer).", envvar="CE_GATEWAY_TOKEN")
]
Credentials = Annotated[Path | None, typer.Option(help="NATS credentials file.")]
CaFile = Annotated[Path | None, typer.Option(help="PEM file with CAs to trust.")]
CertFile = Annotated[Path | None, typer.Option(help="PEM file with our certificate.")]
KeyFile = Annotated[Path | None, typer.Option(help="PEM file with its key.")]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Do not check the server's certificate.")
]
PskIdentity = Annotated[str | None, typer.Option(help="CoAP over DTLS: identity of the key.")]
PskKey = Annotated[
    str | None,
    typer.Option(
        help="CoAP over DTLS: pre-shared key, as text or hex:...", envvar="CE_GATEWAY_PSK_KEY"
    ),
]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds to wait for an answer.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
