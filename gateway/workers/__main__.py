"""A worker's process; the parent starts it with the number of its end of the socket pair."""

import sys

from gateway.workers.worker import main

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
