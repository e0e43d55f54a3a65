"""One module for each row of the fault plan; see `tests.faults.row`."""
