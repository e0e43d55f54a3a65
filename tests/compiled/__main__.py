"""Compare both builds for longer: `python -m tests.compiled [--seconds 60] [--seed N]`."""

import argparse
import random
import sys
import time

from tests.compiled.builds import both, unusable
from tests.compiled.inputs import corpus_of, damaged
from tests.compiled.targets import TARGETS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.compiled")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    if why := unusable():
        sys.exit(why)
    chance = random.Random(options.seed)
    ends, count = time.monotonic() + options.seconds, 0
    with both() as builds:
        while time.monotonic() < ends:
            questions = [
                (target, damaged(corpus_of(target), chance))
                for target in TARGETS
                for _ in range(20)
            ]
            if difference := builds.difference(questions):
                sys.exit(f"seed {options.seed}, after {count} inputs\n{difference}")
            count += len(questions)
    print(f"seed {options.seed}: both builds say the same of {count} inputs")


if __name__ == "__main__":
    main()
