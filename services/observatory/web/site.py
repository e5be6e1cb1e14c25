"""What all routes share: the projections, the store of artifacts, and the parts of pages that change."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import anyio
from litestar.di import NamedDependency
from markupsafe import Markup
from msgspec import Struct

from services.observatory.computing import AskedWhatif, Computation, Computations
from services.observatory.doctor import Doctor
from services.observatory.journal import put_newest
from services.observatory.projection import Projection
from services.observatory.screens import health, history, models, money, now, proof, proposals, symbol, training, whatif
from services.observatory.screens.now import Around
from services.observatory.web.rendering import render
from services.observatory.web.sessions import Access
from shared.artifacts import ArtifactStore
from shared.commands.desk import CommandDesk
from shared.settings import Settings

SHORTEST_S: Final = 0.4
"""Between two updates of one page: what changes more often is sent together."""
MOST_VIEWS: Final = 200
"""Views whose parts are kept until the next change."""

MOST_CARDS: Final = 500
"""Cards of series that are kept until the series changes."""

Parts = dict[str, str]
"""The parts of a page by the id of their element, as HTML. Each is replaced when it changes."""


class Rendered(NamedTuple):
    """The parts of a view as of a ``revision``, for all who look at it until ``again_at`` (of the steady clock).
    ``patches``: what was sent to those who had an earlier revision, by that."""

    parts: Parts
    revision: int
    again_at: float
    patches: dict[int, Any]


class View(Struct, frozen=True):
    """What a person looks at: a screen and its parameters."""

    screen: str
    name: str = ""
    search: str = ""
    page: int = 1
    partition: int = 0


class Site:
    """One observatory. ``stop`` is set when the process ends, so that open streams of updates end too. ``access``: who
    may sign in; without it there is no sign-in. ``desk``: where their commands are issued."""

    def __init__(
        self,
        projection: Projection,
        store: ArtifactStore,
        stop: anyio.Event,
        settings: Settings | None = None,
        *,
        access: Access | None = None,
        desk: CommandDesk | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.doctor = Doctor(projection, self.settings)
        self.computations = Computations(projection, self.settings)
        self.access = access
        self.desk = desk
        self.projection = projection
        self.store = store
        self.stop = stop
        self.checking = anyio.CapacityLimiter(1)
        """Links are checked, and charts drawn, one at a time: Matplotlib is not made for threads."""
        self.retrying = anyio.Lock()
        """Refused input is appended again one at a time: each retry first looks for an earlier one."""
        self._shared: dict[View, Rendered] = {}
        self._cards: dict[str, tuple[now.SeriesNow, str]] = {}

    @property
    def around(self) -> Around:
        """What is known beside the projections."""
        projection = self.projection
        return Around(
            now=projection.now,
            views=projection.views,
            error=projection.error,
            caught_up=projection.caught_up,
        )

    def status(self) -> now.StatusNow:
        """Return what stands at the top of every page."""
        return now.status_of(self.projection.state, self.projection.newest, self.around)

    def parts(self, view: View) -> Parts:
        """Return the parts of a page that change."""
        parts = {"status": render("parts/status.html", status=self.status(), patch=True)}
        make: Callable[[Site, View], Parts] | None = MAKERS.get(view.screen)
        return parts | (make(self, view) if make is not None else {})

    def shared(self, view: View) -> Rendered:
        """Return the parts of a page. All who look at the same view share one rendering, and there is at most one each
        ``SHORTEST_S``: while 500 symbols close a bar, every event makes a new revision."""
        revision, kept, now = self.projection.revision, self._shared.get(view), time.monotonic()
        if kept is None or (kept.revision != revision and now >= kept.again_at):
            kept = Rendered(self.parts(view), revision, now + SHORTEST_S, {})
            put_newest(self._shared, view, kept, MOST_VIEWS)
        return kept

    def card(self, series: now.SeriesNow) -> str:
        """Return the card of a series on the screen Now. With forty ballots it takes milliseconds to draw, so that it
        is drawn only if the series changed."""
        kept = self._cards.get(series.name)
        if kept is None or kept[0] != series:
            kept = series, render("parts/card.html", series=series, patch=False)
            put_newest(self._cards, series.name, kept, MOST_CARDS)
        return kept[1]

    def now(self, view: View) -> now.Now:
        """Return the screen Now."""
        state, control = self.projection.state, self.projection.newest
        return now.screen(state, control, self.around, search=view.search, page=view.page)

    def proposals(self) -> proposals.Proposals:
        """Return the rule of two persons, and what waits under it."""
        return proposals.screen(self.projection.newest, self.projection.now)

    def health(self) -> health.HealthScreen:
        """Return the screen Health."""
        projection = self.projection
        apart_ms = projection.clock.apart_ms
        return health.screen(projection.state, projection.newest, self.around, apart_ms=apart_ms)


SiteOf: TypeAlias = NamedDependency[Site]
"""The site, as routes ask for it."""


def _now(site: Site, view: View) -> Parts:
    screen = site.now(view)
    parts = {
        "tiles": render("parts/tiles.html", screen=screen, patch=True),
        "side": render("parts/side.html", screen=screen, patch=True),
        "more": render("parts/more.html", screen=screen, search=view.search, patch=True),
    }
    cards = {f"card {one.name}": site.card(one) for one in screen.series}
    # The order of the cards is a part of its own: a page that has another one is sent all of them.
    parts["series"] = render("parts/series.html", screen=screen, cards="".join(cards.values()), patch=True)
    return {**parts, **{name: card.replace("<li ", '<li hx-swap-oob="morph" ', 1) for name, card in cards.items()}}


def _models(site: Site, view: View) -> Parts:
    screen = models.screen(site.projection.state, site.projection.newest, view.partition)
    return {"models": render("parts/models.html", screen=screen, patch=True), **_proposals(site, view)}


def _proposals(site: Site, _: View) -> Parts:
    return {"proposals": render("parts/proposals.html", screen=site.proposals(), patch=True)}


def _history(site: Site, view: View) -> Parts:
    screen = history.screen(site.projection.state, site.projection.control, page=view.page)
    return {"timeline": render("parts/timeline.html", screen=screen, patch=True)}


def _symbol(site: Site, view: View) -> Parts:
    projection = site.projection
    screen = symbol.screen(projection.state, projection.newest, site.around, view.name)
    if screen is None:
        return {}
    return {
        "card": render("parts/card.html", series=screen.series, patch=True),
        "lists": render("parts/lists.html", screen=screen, patch=True),
    }


def _health(site: Site, view: View) -> Parts:
    screen, doctor = site.health(), site.doctor.last
    names = ("health-tiles", "services", "letters")
    parts = {name: render(f"parts/{name}.html", screen=screen, doctor=doctor, patch=True) for name in names}
    return parts if doctor is None else {**parts, "doctor": render("parts/doctor.html", doctor=doctor, patch=True)}


def _training(site: Site, view: View) -> Parts:
    screen = training.screen(site.projection.state, site.projection.newest, page=view.page)
    return {"jobs": render("parts/jobs.html", screen=screen, patch=True)}


def _job(site: Site, view: View) -> Parts:
    observed = site.projection.state.jobs.get(view.name)
    if observed is None:
        return {}
    return {"job": render("parts/job.html", job=training.shown(observed), alone=True, patch=True)}


def whatif_of(site: Site, name: str) -> Computation | None:
    """Return a what-if by the name of its question; None if it was not asked lately."""
    found = site.computations.find(name)
    return found if found is not None and isinstance(found.asked, AskedWhatif) else None


def _whatif(site: Site, view: View) -> Parts:
    trial = whatif_of(site, view.name)
    asked = trial.asked if trial is not None and isinstance(trial.asked, AskedWhatif) else AskedWhatif()
    screen = whatif.screen(site.projection.newest, asked, trial, site.computations.running)
    return {"trial": render("parts/trial.html", screen=screen, patch=True)}


def _proof(site: Site, view: View) -> Parts:
    screen = proof.screen(site.projection.control, view.page, site.computations) if view.page > 0 else None
    return {} if screen is None else {"proof": render("parts/proof.html", screen=screen, patch=True)}


def money_part(site: Site, view: View, *, patch: bool = False) -> Markup:
    """Return the part of the screen Money that changes: the symbols of the line ``name``, or the lines of the symbol
    ``search``."""
    screen = money.screen(site.computations)
    lines = screen.report.lines if screen.report is not None else ()
    line = view.name or next((each.line for each in lines), "")
    tables = money.tables(lines, line, view.search)
    shown = {"screen": screen, "tables": tables, "line": line, "symbol": view.search}
    return Markup(render("parts/money.html", **shown, patch=patch))  # noqa: S704  # a template's


def _money(site: Site, view: View) -> Parts:
    return {"money": money_part(site, view, patch=True)}


MAKERS: Final[Mapping[str, Any]] = {
    "now": _now,
    "models": _models,
    "money": _money,
    "proposals": _proposals,
    "health": _health,
    "history": _history,
    "proof": _proof,
    "symbol": _symbol,
    "training": _training,
    "job": _job,
    "whatif": _whatif,
}
