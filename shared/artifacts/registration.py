"""Make the command that registers an artifact in an installation."""

from schemas.control import RegisterArtifact
from shared.artifacts.manifest import Manifest


def registration(model: str, digest: str, manifest: Manifest) -> RegisterArtifact:
    """Return the command that registers an artifact, with everything that a vote needs."""
    return RegisterArtifact(
        model=model,
        artifact=digest,
        family=manifest.family,
        feature_set=manifest.feature_set.digest,
        feature_set_name=manifest.feature_set.name,
        interval_ms=manifest.interval_ms,
        classes=manifest.classes,
        centre=manifest.centre,
        prior=manifest.prior,
        features=manifest.feature_set.names,
        libraries=manifest.libraries,
        horizon=manifest.label.horizon,
        kappa=manifest.label.kappa,
        backtest=manifest.backtest,
        spread=manifest.spread,
        reach=manifest.reach,
    )
