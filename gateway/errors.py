"""The errors that a person has to act on; `bindings.errors` is about bad messages."""

import os


class ConfigError(Exception):
    """The operator's file is wrong.

    Attributes:
        path: where, as `sources.lab.qos`; "" for the whole file.
    """

    def __init__(self, text: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {text}" if path else text)
        self.path = path


class GatewayError(Exception):
    """The gateway can't do what it was told: a port is taken, a certificate can't be read."""


class ListenError(GatewayError):
    """An address can't be listened on; made of what the system said."""

    def __init__(self, address: object, error: OSError) -> None:
        # The system's own words: asyncio and uvloop put the address around them once more. An
        # unknown host has a negative number and words of its own.
        number = error.errno or 0
        why = os.strerror(number) if number > 0 else error.strerror or str(error)
        super().__init__(f"can't listen on {address}: {why}")
