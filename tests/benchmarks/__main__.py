"""`make bench`: figures for docs/performance.md. Reports, never judges.

python -m tests.benchmarks                everything
python -m tests.benchmarks codec          decode and encode per binding, pipeline
python -m tests.benchmarks process        memory, start-up, CPU per event of the whole process
python -m tests.benchmarks spool          append, read and done of the spool
python -m tests.benchmarks stored         `ack: stored` beside `ack: sink`, at 5,000 events/s
"""

import sys

from tests.benchmarks import codec, machine, process, spool, stored


def main() -> None:
    chosen = set(sys.argv[1:]) or {"codec", "process", "spool", "stored"}
    print(machine.describe())
    if "codec" in chosen:
        codec.run()
    if "process" in chosen:
        process.run()
    if "spool" in chosen:
        spool.run()
    if "stored" in chosen:
        stored.run()


main()
