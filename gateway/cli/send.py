"""`ce-gateway send`: one event, or a load, over any of the protocols."""

import asyncio
import json
import logging
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, Final

import typer
import uvloop

from bindings.errors import InvalidEventError
from gateway.cli import FAILED
from gateway.cli import options as option
from gateway.cli.load import Plan, Tally, run_load
from gateway.cli.messages import Template, read_data
from gateway.cli.senders import Sender, SendError, SendOptions

_SENDERS: Final = {
    "coap": "coap:CoapSender",
    "coaps": "coap:CoapSender",
    "coap+tcp": "coap:CoapSender",
    "coaps+tcp": "coap:CoapSender",
    "coap+ws": "coap:CoapSender",
    "coaps+ws": "coap:CoapSender",
    "mqtt": "mqtt:MqttSender",
    "mqtts": "mqtt:MqttSender",
    "nats": "nats:NatsSender",
    "tls": "nats:NatsSender",
    "http": "http:HttpSender",
    "https": "http:HttpSender",
    "kafka": "kafka:KafkaSender",
}
"""By URL scheme; modules of `gateway.cli.senders`."""


def command(  # noqa: PLR0913 - the options of a command line
    url: option.Url,
    *,
    type_: option.EventType = "com.example.test",
    source: option.Source = "/ce-gateway/send",
    id_: option.EventId = None,
    subject: option.Subject = None,
    data: option.Data = None,
    datacontenttype: option.DataContentType = None,
    extension: option.Extension = None,
    plain: option.Plain = False,
    mode: option.Mode = "binary",
    count: option.Count = 1,
    rate: option.Rate = None,
    concurrency: option.Concurrency = 1,
    size: option.Size = None,
    devices: option.Devices = 0,
    qos: option.QoS = 1,
    mqtt_version: option.MqttVersion = "5",
    non: option.Non = False,
    jetstream: option.JetStream = False,
    username: option.Username = None,
    password: option.Password = None,
    token: option.Token = None,
    credentials: option.Credentials = None,
    ca: option.CaFile = None,
    cert: option.CertFile = None,
    key: option.KeyFile = None,
    insecure: option.Insecure = False,
    psk_identity: option.PskIdentity = None,
    psk_key: option.PskKey = None,
    timeout: option.Timeout = 10.0,
    as_json: option.AsJson = False,
) -> None:
    """Send an event over CoAP, MQTT, NATS, HTTP or Kafka and wait for the acknowledgement.

    With -n it is a load generator: it prints the rate that was reached and how long the
    acknowledgements took. Exit code 1 if any message was not acknowledged.

    \b
    Examples:
      ce-gateway send http://127.0.0.1:8080/ --type com.acme.temp.v1 --data '{"celsius": 21.5}'
      ce-gateway send coap://127.0.0.1/ce --data @reading.json --mode structured
      ce-gateway send mqtt://127.0.0.1/sensors/1 --plain --data 21.5
      ce-gateway send nats://127.0.0.1/events.demo -n 10000 --concurrency 64 --size 200
      ce-gateway send kafka://127.0.0.1:9092/events --subject demo
    """  # noqa: D301 - \b keeps lines apart
    template = Template(
        type=type_, source=source, id=id_, subject=subject, data=_payload(data),
        datacontenttype=datacontenttype, extensions=_pairs(extension or []), plain=plain,
        size=size, devices=devices, count=count,
    )  # fmt: skip
    options = SendOptions(
        mode=mode, qos=qos, version=mqtt_version, confirmable=not non, jetstream=jetstream,
        username=username, password=password, token=token, credentials=credentials,
        ca=ca, cert=cert, key=key, insecure=insecure, timeout=timeout,
        psk_identity=psk_identity, psk_key=psk_key,
    )  # fmt: skip
    _check(template)
    sender = _sender(url, options)
    tally = _run(sender, template, Plan(count=count, rate=rate, concurrency=concurrency))
    _report(tally, count, as_json=as_json)


def _payload(data: str | None) -> bytes | None:
    try:
        return read_data(data)
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="--data") from None


def _pairs(extensions: list[str]) -> dict[str, str]:
    pairs = {}
    for extension in extensions:
        name, separator, value = extension.partition("=")
        if not separator:
            raise typer.BadParameter(f"{extension!r} is not NAME=VALUE", param_hint="--extension")
        pairs[name] = value
    return pairs


def _check(template: Template) -> None:
    if template.size is not None and template.data is not None:
        raise typer.BadParameter("--data or --size, not both", param_hint="--size")
    try:
        template.message(0)
    except InvalidEventError as error:
        raise typer.BadParameter(str(error)) from None


def _sender(url: str, options: SendOptions) -> Sender:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in _SENDERS:
        raise typer.BadParameter(
            f"{url!r} starts with none of {', '.join(f'{known}://' for known in _SENDERS)}",
            param_hint="URL",
        )
    module, _, name = _SENDERS[scheme.lower()].partition(":")
    kind: type[Sender] = getattr(import_module(f"gateway.cli.senders.{module}"), name)
    try:
        return kind(url, options)
    except (SendError, ValueError) as error:  # ValueError: no port, no IPv6 address
        raise typer.BadParameter(str(error), param_hint="URL") from None


def _run(sender: Sender, template: Template, plan: Plan) -> Tally:
    # What a client library has to say is said again, in better words, by SendError.
    logging.basicConfig(handlers=[logging.NullHandler()])

    async def run() -> Tally:
        await sender.open()
        try:
            with _progress(plan.count) as advance:
                return await run_load(sender, template.message, plan, advance)
        finally:
            await sender.close()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run())
    except SendError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None


def _progress(count: int) -> AbstractContextManager[Any]:
    """Return a context with a function to call after each message; it draws on a terminal only."""
    if count == 1 or not sys.stderr.isatty():
        return nullcontext(lambda: None)
    from gateway.cli.progress import bar  # noqa: PLC0415 - rich is slow to import

    return bar(count)


def _report(tally: Tally, count: int, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(tally.as_dict()))
    elif count > 1:
        typer.echo(tally.as_text())
    else:
        for answer in tally.answers:
            typer.echo(answer)
        for failure in tally.failures:
            typer.echo(failure, err=True)
    if len(tally.latencies) < count:
        raise typer.Exit(FAILED)
