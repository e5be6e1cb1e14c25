"""Drop bars that are complete, with their stamps and decisions.

A bar is complete once no prediction at it waits and none that is still to be read can have a score. The bars of a
series are completed in order. A prediction has a score only if

* it is the first answer of its artifact at this bar or a later one (each artifact answers bars in order),
* its artifact was active under the stamp of the bar,
* before it on ``predictions`` no artifact had answered a bar ``LATE`` bars later, or the decision of its bar lists it.

The decision by a voting policy has a score if the policy was in shadow under the stamp of the bar. While there is such
a policy, a bar is kept until its decision was read.

Each condition is about the order within one stream, or about two events that name the same bar. So it does not matter
when a bar is dropped: a prediction that is read after that has no score in any order of reading.
"""

from services.shadow_recorder.ordering import listed_were_read
from services.shadow_recorder.state import LATE, Stamp, State, SymbolState


def drop_complete(state: State, series: SymbolState) -> None:
    """Drop the bars of a series that are complete, with their stamps and decisions."""
    oldest = series.oldest_pending
    while series.stamps:
        open_time, stamp = next(iter(series.stamps.items()))
        if (oldest is not None and open_time >= oldest) or not _complete(state, series, open_time, stamp):
            break
        del series.stamps[open_time]
    # A bar without features that is older than the last one with features was refused, so no artifact answers it.
    until = next(iter(series.stamps)) - 1 if series.stamps else series.featured
    if oldest is not None:
        until = min(until, oldest - 1)
    if until > series.complete:
        series.complete = until
        while series.decisions and (decided := next(iter(series.decisions))) <= until:
            del series.decisions[decided]
            series.decided_base = decided
    series.history.drop_before(series.complete + 1)


def _complete(state: State, series: SymbolState, open_time: int, stamp: Stamp) -> bool:
    """Return whether no prediction that is still to be read can have a score at a bar."""
    late = series.frontier >= open_time + LATE * series.history.interval_ms
    if stamp.version is None:
        return (late and listed_were_read(state, series, open_time)) or _passed_unstamped(series, open_time)
    configurations = state.configurations
    awaited = configurations.policy_shadows(stamp.version) and configurations.voted(stamp.version)
    if awaited and series.decided < open_time:
        return False
    if all(series.answered(artifact) >= open_time for artifact in configurations.active(stamp.version)):
        return True
    return late and (not state.configurations.voted(stamp.version) or listed_were_read(state, series, open_time))


def _passed_unstamped(series: SymbolState, open_time: int) -> bool:
    """Return whether features are so many bars further that an unstamped bar is complete. A release without stamps did
    not record which artifacts were to answer a bar. It is kept for ``LATE`` bars if no artifact has answered any bar so
    far, and four times as long otherwise."""
    bars = LATE if series.frontier < 0 else 4 * LATE
    return series.featured >= open_time + bars * series.history.interval_ms
