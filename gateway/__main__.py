"""The command `ce-gateway`. A command's module is imported when the command is called."""

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Final

import typer
import typer.core
import typer.main

_OWN: Final = ("run", "check", "schema", "send", "listen", "dead-letters", "spool")
_PLUGINS: Final = "cloudevents_gateway.commands"
_STYLE: Final[dict[str, Any]] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,  # its help needs rich, which takes longer than the rest of the start
}


class _Commands(typer.core.TyperGroup):
    """Our commands, and those of installed packages (entry points that are typer applications)."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return [*_OWN, *sorted(_plugins())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in _OWN:
            module = import_module(f"gateway.cli.{cmd_name.replace('-', '_')}")
            if hasattr(module, "app"):  # commands of its own
                app = module.app
            else:
                app = typer.Typer(**_STYLE)
                app.command(cmd_name)(module.command)
        elif cmd_name in (plugins := _plugins()):
            app = plugins[cmd_name].load()
        else:
            from gateway.config.suggest import did_you_mean  # noqa: PLC0415 - after a mistake only

            hint = did_you_mean(cmd_name, self.list_commands(ctx))
            raise typer.BadParameter(f"no such command {cmd_name!r}{hint}", ctx=ctx)
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    **_STYLE,
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - the interface of option callbacks
    if wanted:
        from gateway.build import build  # noqa: PLC0415 - after this option only

        typer.echo(f"ce-gateway {build()}")
        raise typer.Exit


@app.callback(epilog="Exit codes: 0 ok, 1 failed, 2 wrong usage, 78 wrong configuration.")
def _options(
    *,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version, and whether it is compiled, and exit.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    """Take CoAP, MQTT, NATS and HTTP in, and hand CloudEvents on to Knative, Kafka or JetStream.

    Example: ce-gateway run gateway.yaml
    """
    del show_version


def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=_PLUGINS)}


def main() -> None:
    """Run the command line; the process ends with its exit code."""
    app(prog_name="ce-gateway")


if __name__ == "__main__":
    main()
