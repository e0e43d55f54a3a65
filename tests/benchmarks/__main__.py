"""`make bench`: figures for docs/performance.md. Reports, never judges.

python -m tests.benchmarks                everything
python -m tests.benchmarks codec          decode and encode per binding, pipeline
python -m tests.benchmarks process        memory, start-up, CPU per event of the whole process
"""

import sys

from tests.benchmarks import codec, machine, process


def main() -> None:
    chosen = set(sys.argv[1:]) or {"codec", "process"}
    print(machine.describe())
    if "codec" in chosen:
        codec.run()
    if "process" in chosen:
        process.run()


main()
