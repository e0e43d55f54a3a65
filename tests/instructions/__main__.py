"""Instructions per event beside the kept counts: `python -m tests.instructions [--update]`."""

import sys

from tests.instructions import counts
from tests.instructions.workloads import WORKLOADS


def main() -> None:
    missing = counts.missing()
    if missing:
        sys.exit(missing)
    found = counts.count_all(WORKLOADS)
    kept = counts.load().counts if counts.KEPT.exists() else {}
    print("instructions per event            kept    found")
    for name, instructions in found.items():
        before = kept.get(name)
        change = f"{instructions / before - 1:+.2%}" if before else ""
        print(f"{name:32} {before or '':>6} {instructions:>8} {change}")
    if "--update" in sys.argv[1:]:
        counts.store(found)
        print(f"written: {counts.KEPT}")


if __name__ == "__main__":
    main()
