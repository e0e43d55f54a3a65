"""The options of `ce-gateway conformance`, each with its help."""

from pathlib import Path
from typing import Annotated

import typer

from conformance.check import Profile

Names = Annotated[
    list[str] | None,
    typer.Argument(
        help="Bindings such as http, mqtt, coap; or binding:MODULE:NAME for a codec of your own. "
        "Default: everything that is installed."
    ),
]
ProfileOption = Annotated[
    Profile,
    typer.Option(
        help="1.0.2: the release; main: the work in progress; "
        "lenient: what a receiver can live with."
    ),
]
Family = Annotated[list[str] | None, typer.Option(help="Checks of this family only. Repeatable.")]
Only = Annotated[
    list[str] | None,
    typer.Option(help="Checks with this in their id, or of this requirement, only. Repeatable."),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help="A codec in any language: the command line of its adapter, "
        "or python-sdk, javascript-sdk for the ones that come along.",
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="URL",
        help="A foreign gateway: where devices send. Repeatable, for its other listeners "
        "(coap://, coaps://, coap+tcp://, coap+ws://).",
    ),
]
Observe = Annotated[
    str,
    typer.Option(metavar="URL", help="Where that gateway delivers over HTTP; we listen there."),
]
Broker = Annotated[bool, typer.Option("--broker", help="The target is a broker: it acknowledges.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Every = Annotated[bool, typer.Option("--all", help="Print every failure.")]
Vectors = Annotated[
    Path | None,
    typer.Option(
        "--vectors",
        metavar="FILE",
        help="Vectors of binding:MODULE:NAME. Default: vectors.json beside the module, "
        "if it is in a package.",
    ),
]
Requirements = Annotated[
    Path | None,
    typer.Option(
        "--requirements",
        metavar="FILE",
        help="The requirements that its vectors name. Default: requirements.yaml beside them.",
    ),
]
Reports = Annotated[
    list[Path] | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Write a report too; its ending says which: .json, .xml (JUnit), .md, .html, "
        ".svg (a badge). Repeatable.",
    ),
]
