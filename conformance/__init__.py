"""The specification, executable; the suite itself comes with its own issue."""
