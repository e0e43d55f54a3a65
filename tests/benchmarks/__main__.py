"""`make bench`: figures for docs/performance.md. Reports, never judges.

python -m tests.benchmarks                all but `process` and `stored`, in 40 minutes
python -m tests.benchmarks paths          CPU per event of each path, beside other products
python -m tests.benchmarks acks           what acknowledgements, and `ack: stored`, cost
python -m tests.benchmarks sizes          events per second against the length of lists
python -m tests.benchmarks latency        p50, p99, p99.9 at fixed rates
python -m tests.benchmarks idle           memory of 10,000 connected devices
python -m tests.benchmarks memory         memory over minutes at 5,000 events/s
python -m tests.benchmarks codec          decode and encode per binding, pipeline
python -m tests.benchmarks process        memory, start-up, CPU per event with real brokers
python -m tests.benchmarks spool          append, read and done of the spool
python -m tests.benchmarks stored         `ack: stored` beside `ack: sink`, at 5,000 events/s

One figure, while working on it:
python -m tests.benchmarks paths --only mqtt-kafka --contenders gateway,mq-bridge --pairs 5
Two checkouts: --contenders gateway,gateway@/path/to/the/other
"""

import argparse
import contextlib
import datetime
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import codec, process, spool, stored
from tests.benchmarks.machine import describe
from tests.benchmarks.options import Options
from tests.benchmarks.report import PRINTED, SECTIONS, draw, put_into, text_of

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "performance.md"
RESULTS: Final = ROOT / ".cache" / "bench" / "results.json"
_PRINTING: Final = {"codec": codec, "process": process, "spool": spool, "stored": stored}
_LONG: Final = ("process", "stored")
"""Only when they are named: they take minutes, and nothing in them can be made short."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was asked for."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.results:
        results = json.loads(chosen.results.read_text())
    else:
        names = chosen.sections or [name for name in (*SECTIONS, *PRINTED) if name not in _LONG]
        results = measure(names, _options(chosen))
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1))
    parts = text_of(results)
    whole = "\n\n".join(f"## {name}\n\n{text}" for name, text in parts.items())
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))
    if chosen.markdown:
        chosen.markdown.write_text(whole + "\n")
    if chosen.write:
        PAGE.write_text(put_into(PAGE.read_text(), parts))
        draw(results, PAGE.parent / "pictures")
    print(whole)


def measure(names: Sequence[str], options: Options) -> dict[str, Any]:
    """Run sections and return what they found."""
    started = time.monotonic()
    sections: dict[str, Any] = {}
    for name in names:
        print(f"{name}, after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        if name in PRINTED:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                _PRINTING[name].run()
            sections[name] = {"printed": printed.getvalue()}
        else:
            sections[name] = SECTIONS[name].measure(options)
    print(f"done after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    today = datetime.datetime.now(datetime.UTC).date()
    return {"day": today.isoformat(), "machine": describe(), "sections": sections}


def _options(chosen: argparse.Namespace) -> Options:
    quick = chosen.quick

    def or_else(value: Any, whole: Any, small: Any) -> Any:
        return value if value is not None else small if quick else whole

    return Options(
        only=chosen.only,
        names=chosen.contenders,
        pairs=or_else(chosen.pairs, 3, 1),
        events=or_else(chosen.events, 60_000, 5000),
        seconds=or_else(chosen.seconds, 3.0, 1.0),
        minutes=or_else(chosen.minutes, 1.0, 0.1),
        devices=or_else(chosen.devices, 10_000, 500),
        cluster=chosen.cluster,
        quick=quick,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def names(text: str) -> Sequence[str]:
        return [name for name in text.split(",") if name]

    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, *PRINTED, []])
    parser.add_argument("--quick", action="store_true", help="everything small, to see it work")
    parser.add_argument(
        "--only", type=names, default=(), help="paths, such as mqtt-kafka,http-http"
    )
    parser.add_argument("--contenders", type=names, default=(), help="names; default: all")
    parser.add_argument("--pairs", type=int, help="runs of each")
    parser.add_argument("--events", type=int, help="in a run")
    parser.add_argument("--seconds", type=float, help="longest time of a run")
    parser.add_argument("--minutes", type=float, help="of the memory section")
    parser.add_argument("--devices", type=int, help="of the idle section")
    parser.add_argument("--cluster", choices=["mock", "noida", "apache"], default="mock",
                        help="what Kafka is, in `paths`")  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--markdown", type=Path, help="write the report there, too")
    parser.add_argument("--results", type=Path, help="measure nothing: report these figures")
    parser.add_argument("--write", action="store_true", help="put them into docs/performance.md")
    return parser


if __name__ == "__main__":
    main()
