"""Compare two registered artifacts, and name what differs."""

from collections.abc import Iterator

from schemas.control import RegisterArtifact


def differences(champion: RegisterArtifact, candidate: RegisterArtifact) -> list[str]:
    """Return what changes for the voter if ``candidate`` replaces ``champion``, one phrase each; empty if nothing."""
    return [*_features(champion, candidate), *_plain(champion, candidate), *_libraries(champion, candidate)]


def _features(champion: RegisterArtifact, candidate: RegisterArtifact) -> Iterator[str]:
    if champion.feature_set == candidate.feature_set:
        return
    sets = f"feature set {champion.feature_set_name} {champion.feature_set[:12]}"
    sets += f" -> {candidate.feature_set_name} {candidate.feature_set[:12]}"
    removed = [name for name in champion.features if name not in candidate.features]
    added = [name for name in candidate.features if name not in champion.features]
    if not champion.features or not candidate.features:
        yield f"{sets} (names were not recorded)"
    elif removed or added:
        only_old, only_new = ", ".join(removed) or "none", ", ".join(added) or "none"
        yield f"{sets}: only the champion has {only_old}; only this has {only_new}"
    elif champion.features == candidate.features:
        yield f"{sets}: the same names with other parameters"
    else:
        moved = next((old, new) for old, new in zip(champion.features, candidate.features, strict=True) if old != new)
        yield f"{sets}: the same names in another order, first {moved[0]} -> {moved[1]}"


def _plain(champion: RegisterArtifact, candidate: RegisterArtifact) -> Iterator[str]:
    if champion.classes != candidate.classes:
        yield f"class order {champion.classes} -> {candidate.classes}"
    if champion.interval_ms != candidate.interval_ms:
        yield f"interval {champion.interval_ms} ms -> {candidate.interval_ms} ms"
    if champion.family != candidate.family:
        yield f"family {champion.family} -> {candidate.family}"


def _libraries(champion: RegisterArtifact, candidate: RegisterArtifact) -> Iterator[str]:
    """Yield the libraries whose versions differ, if both artifacts recorded theirs."""
    old, new = champion.libraries, candidate.libraries
    if not old or not new:
        return
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield f"library {name} {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
