"""Settings of one installation: addresses, paths and resources. One TOML file; unknown keys are refused.

No setting changes a vote: artifacts, weights, policies and halts are commands of the stream ``control``, and the
feature set and the gap policy are recorded in every vector. Two machines with different settings and the same control
stream reach the same decisions, or none.

Secrets are read from the environment only: ``CONCLAVE_REDIS_PASSWORD``, or ``CONCLAVE_REDIS_PASSWORD_FILE`` with the
path of a file; those of Sentinels from ``CONCLAVE_SENTINEL_PASSWORD`` or ``CONCLAVE_SENTINEL_PASSWORD_FILE``; the token
of the bot for a phone from ``CONCLAVE_PHONE_TOKEN`` or ``CONCLAVE_PHONE_TOKEN_FILE``. A secret in the settings file is
refused. ``CONCLAVE_REDIS_USER`` is the Redis user of a process, where
several processes share a file. ``OTEL_EXPORTER_OTLP_ENDPOINT`` of OpenTelemetry is used if the file names no endpoint.
"""

from shared.settings.environment import (
    ENDPOINT,
    PASSWORD,
    PASSWORD_FILE,
    PHONE_TOKEN,
    SENTINEL_PASSWORD,
    USER,
    VARIABLE,
    SettingsError,
    phone_token,
    redis_url_with_password,
)
from shared.settings.loading import FILE, find, load
from shared.settings.sections import (
    LOOPBACK,
    URL_SCHEMES,
    Archive,
    ExchangeSettings,
    Features,
    Feed,
    Installation,
    Mode,
    Models,
    ObservatorySettings,
    PhoneSettings,
    Redis,
    Setting,
    Settings,
    TelemetrySettings,
    TrainingSettings,
    address_of,
    describe,
    persons_of,
)

__all__ = [
    "ENDPOINT",
    "FILE",
    "LOOPBACK",
    "PASSWORD",
    "PASSWORD_FILE",
    "PHONE_TOKEN",
    "SENTINEL_PASSWORD",
    "URL_SCHEMES",
    "USER",
    "VARIABLE",
    "Archive",
    "ExchangeSettings",
    "Features",
    "Feed",
    "Installation",
    "Mode",
    "Models",
    "ObservatorySettings",
    "PhoneSettings",
    "Redis",
    "Setting",
    "Settings",
    "SettingsError",
    "TelemetrySettings",
    "TrainingSettings",
    "address_of",
    "describe",
    "find",
    "load",
    "persons_of",
    "phone_token",
    "redis_url_with_password",
]
