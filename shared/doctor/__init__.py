"""Check what an installation depends on: server, disk, clocks, control chain and workers. Console and observatory show
the same checks."""
