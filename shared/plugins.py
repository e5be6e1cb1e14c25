"""Names that other distributions add by entry points: families, feature sets, feeds.

    [project.entry-points."conclave.families"]
    ridge = "my_package.ridge:FAMILY"

The names are read from the metadata of the installed distributions. An object is imported when its name is looked up,
so a service does not import plug-ins that it does not use.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

T = TypeVar("T")


class PluginError(RuntimeError):
    """A plug-in cannot be used. The message names its distribution and the fault."""


class Plugins(Mapping[str, T]):
    """The objects of this release by name, and those that the entry points of ``group`` add.

    A name of this release is never replaced: the first use of an added name raises ``PluginError`` if one of them is
    taken. ``reserved``: further taken names. ``fault``: returns what is wrong with a loaded object; None if nothing."""

    def __init__(
        self,
        group: str,
        own: Mapping[str, T],
        fault: Callable[[str, Any], str | None],
        reserved: Collection[str] = (),
    ) -> None:
        self._group = group
        self._own = own
        self._fault = fault
        self._reserved = reserved
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        """Return the object with a name. Raises ``KeyError`` if there is none, ``PluginError`` if it cannot be used."""
        if name in self._own:
            return self._own[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(self._added[name])
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        """Return whether a name exists, without loading its object. Raises ``PluginError`` if an added name is
        taken."""
        return name in self._own or name in self._added

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self._added

    def __len__(self) -> int:
        return len(self._own) + len(self._added)

    @cached_property
    def _added(self) -> dict[str, EntryPoint]:
        added: dict[str, EntryPoint] = {}
        for entry in entry_points(group=self._group):
            if entry.name in self._own or entry.name in self._reserved:
                raise PluginError(
                    f"{_about(entry)}: that name belongs to Conclave; rename the entry point or uninstall it"
                )
            if entry.name in added:
                other = _distribution(added[entry.name])
                raise PluginError(f"{_about(entry)}: {other} adds the same name; uninstall one of them")
            added[entry.name] = entry
        return added

    def _load(self, entry: EntryPoint) -> T:
        try:
            loaded: T = entry.load()
        except Exception as error:  # a plug-in can raise anything while it is imported
            raise PluginError(f"{_about(entry)}: {type(error).__name__}: {error}") from error
        if fault := self._fault(entry.name, loaded):
            raise PluginError(f"{_about(entry)}: {fault}")
        return loaded


def _about(entry: EntryPoint) -> str:
    return f"{_distribution(entry)} adds {entry.name!r} to {entry.group} by {entry.value}"


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a distribution"
