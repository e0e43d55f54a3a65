"""The options of `ce-gateway dead-letters`, each with its help."""

from pathlib import Path
from typing import Annotated

import typer

Number = Annotated[int, typer.Argument(metavar="ID", min=1, help="As `list` shows it.")]
Numbers = Annotated[
    list[int] | None, typer.Argument(metavar="[ID]...", help="These; none: what the options say.")
]
Url = Annotated[
    str | None,
    typer.Option(help="Administration of a running gateway.", show_default="127.0.0.1:8081"),
]
State = Annotated[
    Path | None, typer.Option(help="Folder `state.path` of a gateway that is stopped, instead.")
]
Token = Annotated[
    str | None, typer.Option(help="admin.token of that gateway.", envvar="CE_GATEWAY_ADMIN_TOKEN")
]
Route = Annotated[str | None, typer.Option(help="Only of this route.")]
Source = Annotated[str | None, typer.Option(help="Only from this source of the gateway.")]
Sink = Annotated[str | None, typer.Option(help="Only those that this sink did not take.")]
Reason = Annotated[str | None, typer.Option(help="Only for this reason, such as sink_refused.")]
EventType = Annotated[str | None, typer.Option("--type", help="Only events of this type.")]
Since = Annotated[
    str | None, typer.Option(help="Last tried since: 2026-03-01T12:00:00Z, or PT1H ago.")
]
Until = Annotated[str | None, typer.Option(help="Last tried before.")]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, help="At most so many, the newest.")]
Rate = Annotated[float, typer.Option(min=0.001, max=100_000, help="Events per second.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before everything is deleted.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
