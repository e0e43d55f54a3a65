"""The parts of the report. Each measures, writes Markdown, and draws what there is to draw."""
