"""Run a service: the host of its core, its process, its supervision."""
