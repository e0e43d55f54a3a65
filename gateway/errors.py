"""The two errors that a person has to act on; `bindings.errors` is about bad messages."""


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
