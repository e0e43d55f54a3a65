"""Reports of a run: for a terminal, for machines (JSON, JUnit), for reading (Markdown, HTML)."""
