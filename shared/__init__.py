"""How events are carried and computed with: the log, the runtime, settings, telemetry, features,
artifacts, model families, voting and the control fold. Imports ``schemas``; never a service."""
