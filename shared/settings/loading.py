"""Read the settings file."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import ValidationError

from shared.settings.environment import ENDPOINT, VARIABLE, SettingsError
from shared.settings.refusals import placed, refuse_unknown, refuse_values
from shared.settings.sections import Settings

FILE: Final = "conclave.toml"


def find(path: Path | str | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the absolute path of the settings file: ``path``, else ``$CONCLAVE_SETTINGS``, else ``./conclave.toml``,
    else None. Raises ``SettingsError`` if a named file does not exist."""
    named = path if path is not None else environ.get(VARIABLE) or None
    if named is None:
        here = Path(FILE).absolute()
        return here if here.is_file() else None
    chosen = Path(named).absolute()
    if not chosen.is_file():
        by = "the given path" if path is not None else f"${VARIABLE}"
        raise SettingsError(f"no settings file at {chosen} (named by {by}); create it or name another")
    return chosen


def load(path: Path | str | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings in the file of ``find``; the defaults if there is no file. Relative paths are relative to the
    folder of the file, or to the working directory without a file. Raises ``SettingsError``."""
    file = find(path, environ)
    if file is None:
        return _anchored(_with_endpoint(Settings(), environ), Path.cwd())
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file}: not a readable TOML file: {error}") from None
    refuse_unknown(document, file)
    try:
        settings = msgspec.convert(document, Settings)
    except ValidationError as error:
        raise SettingsError(f"{file}: {placed(error, document)}") from None
    settings = _with_endpoint(settings, environ)
    refuse_values(settings, file)
    return _anchored(settings, file.parent)


def _with_endpoint(settings: Settings, environ: Mapping[str, str]) -> Settings:
    endpoint = settings.telemetry.endpoint or environ.get(ENDPOINT, "")
    telemetry = msgspec.structs.replace(settings.telemetry, endpoint=endpoint)
    return msgspec.structs.replace(settings, telemetry=telemetry)


def _anchored_path(folder: Path, path: str) -> str:
    """Return a path below ``folder``; a URL and an empty text unchanged."""
    return str(folder / path) if path and "://" not in path else path


def _anchored(settings: Settings, folder: Path) -> Settings:
    """Return the settings with absolute paths: they stay valid if the working directory changes."""
    replace = msgspec.structs.replace
    state = str(folder / settings.installation.state)
    redis = settings.redis
    if redis.ca:
        redis = replace(redis, ca=str(folder / redis.ca))
    if redis.sentinel_ca:
        redis = replace(redis, sentinel_ca=str(folder / redis.sentinel_ca))
    archive = settings.archive
    archive = replace(archive, path=_anchored_path(folder, archive.path), copy=_anchored_path(folder, archive.copy))
    return replace(
        settings,
        redis=redis,
        installation=replace(settings.installation, state=state),
        feed=replace(
            settings.feed,
            path=_anchored_path(folder, settings.feed.path),
            inputs=_anchored_path(folder, settings.feed.inputs),
        ),
        archive=archive,
        phone=replace(settings.phone, keys=_anchored_path(folder, settings.phone.keys)),
    )
