"""Traces, metrics and logs of a service.

    telemetry = start(settings.telemetry, "ensemble-voter", partition)

``reporting``  the interface; alone, it writes one line of log a minute
``export``     sends metrics, and with ``tracing`` spans, by the OpenTelemetry SDK (extra ``telemetry``)
``metrics``    the table of all metrics
``logs``       log lines as JSON, and the limit for floods of them
"""

from shared.distribution import install_command
from shared.settings import TelemetrySettings
from shared.telemetry.reporting import Telemetry


class MissingExporterError(RuntimeError):
    """An endpoint is configured, but the libraries that send to it are not installed."""


def start(settings: TelemetrySettings, service: str, partition: int = 0) -> Telemetry:
    """Return the telemetry of one process of ``service``. Does not connect: a collector may start later.
    Raises ``MissingExporterError``."""
    if not settings.endpoint:
        return Telemetry()
    try:
        from shared.telemetry.export import exporting  # noqa: PLC0415  # heavy, seldom needed
    except ModuleNotFoundError as error:
        raise MissingExporterError(
            f"[telemetry] endpoint is {settings.endpoint!r}, but {error.name} is not installed;"
            f" {install_command('telemetry')}, or leave the endpoint empty"
        ) from None
    return exporting(settings, service, partition)
