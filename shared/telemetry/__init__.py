"""Traces, metrics and logs of a service.

    telemetry = start(settings.telemetry, "ensemble-voter", partition)

``reporting`` is the interface, and what is used where telemetry is off; ``export`` sends by the OpenTelemetry SDK;
``metrics`` lists all metrics; ``logs`` writes lines of JSON.
"""

from shared.distribution import install_command
from shared.settings import TelemetrySettings
from shared.telemetry.reporting import Silent, Telemetry


class MissingExporterError(RuntimeError):
    """An endpoint is configured and the libraries that would send to it are not installed."""


def start(settings: TelemetrySettings, service: str, partition: int = 0) -> Telemetry:
    """The telemetry of one process of ``service``. Does not connect: a collector may come up later.
    Raises ``MissingExporterError``."""
    if not settings.endpoint:
        return Silent()
    try:
        from shared.telemetry.export import exporting  # noqa: PLC0415  # heavy, seldom needed
    except ModuleNotFoundError as error:
        raise MissingExporterError(
            f"[telemetry] endpoint is {settings.endpoint!r}, but {error.name} is not installed;"
            f" {install_command('telemetry')}, or leave the endpoint empty"
        ) from None
    return exporting(settings, service, partition)
