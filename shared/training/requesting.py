"""Make the request of a person for a new artifact, of the champion's recipe and the training policy."""

from typing import Final

from schemas.training import Recipe, TrainingRequested
from shared.artifacts.artifact import ArtifactError
from shared.artifacts.store import ArtifactStore
from shared.control import State
from shared.families import family_named
from shared.training.recipe import recipe_of

DAY_MS: Final = 86_400_000


class NoRecipeError(ValueError):
    """There is no champion whose recipe could be used, or it cannot be read. The message says which."""


def champion_recipe(store: ArtifactStore, state: State, model: str) -> Recipe:
    """Return the recipe by which a model's champion was trained. Raises ``NoRecipeError``."""
    champion = state.model(model).champion
    if champion is None:
        raise NoRecipeError(f"{model!r} has no champion whose recipe could be used")
    try:
        recipe = recipe_of(store.manifest(champion))
    except ArtifactError as error:
        raise NoRecipeError(str(error)) from None
    if isinstance(recipe, str):
        raise NoRecipeError(recipe)
    return recipe


def request_of(
    state: State,
    model: str,
    recipe: Recipe,
    *,
    actor: str,
    reason: str,
    at: int,
    days: float | None = None,
    until: int | None = None,
    symbols: tuple[str, ...] = (),
    forced: bool = False,
    revised_bars: bool | None = None,
) -> TrainingRequested:
    """Return the request of a person, made at ``at`` (ms). What is None is that of the training policy. Raises
    ``ValueError`` for parameters that the family does not take."""
    family_named(recipe.family).window(recipe.params)
    return TrainingRequested(
        model=model,
        recipe=recipe,
        cause="operator",
        evidence=None,
        actor=actor,
        reason=reason,
        at=at,
        window_ms=int((days or state.training.window_days) * DAY_MS),
        until=until,
        symbols=symbols,
        forced=forced,
        revised_bars=state.training.revised_bars is True if revised_bars is None else revised_bars,
    )
