"""The gateway: sources, pipeline and sinks, all I/O around the pure `bindings`."""
