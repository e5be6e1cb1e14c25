"""The library of the services: the log, the runtime, settings, telemetry, features, artifacts, model families, voting
and the control fold. It imports ``schemas``, never a service."""
