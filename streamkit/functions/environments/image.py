"""Which libraries are worth loading before a function is started, and which image has them.

A function's first cold start tells which modules it imported from the runtime's own packages (boto3 and what it needs;
for functions of the library, whatever is installed). An image is a zygote that has loaded such a set. Later cold starts
of the function are forked from it, and find the modules there, in memory that is shared.

A function is only given an image whose packages it would have got from the same place anyway: one that brings its own
`urllib3` did not import ours, and an image that has ours loaded is not for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypedDict, TypeVar

from streamkit.model.limits import FUNCTIONS_LEARNED_MAX, IMAGES_REFUSED_MAX

Modules = tuple[str, ...]
Z = TypeVar("Z")

_COVERED_MIN: Final = 0.9
"""The share of a function's modules that an image must have: below it, one of its own is made."""


class ImageOrder(TypedDict):
    """What a zygote is told, as JSON, to make an image."""

    image: list[str]  # modules to import, in this order
    path: list[str]  # sys.path
    roots: list[str]  # modules from these directories are told of
    shares: bool  # for functions of the library: they may import our own modules


def packages_of(modules: Iterable[str]) -> frozenset[str]:
    """The top-level packages."""
    return frozenset(name.partition(".")[0] for name in modules)


@dataclass(slots=True, eq=False)
class Image(Generic[Z]):
    zygote: Z
    kind: Hashable  # images of one kind found their modules in the same places
    wanted: Modules
    modules: frozenset[str] = field(default=frozenset())  # loaded; empty until it is ready
    environments: int = 0  # forked from it, and alive


class Images(Generic[Z]):
    """Learns from cold starts, and chooses. Making and ending images is the caller's; `retire` is asked to end one."""

    def __init__(self, images_max: int, retire: Callable[[Image[Z]], None]) -> None:
        self._images_max = images_max
        self._retire = retire
        self._learned: OrderedDict[Hashable, Modules] = OrderedDict()
        self._images: list[Image[Z]] = []  # the least recently used one first
        self._refused: OrderedDict[tuple[Hashable, Modules], None] = OrderedDict()

    def learn(self, function: Hashable, kind: Hashable, modules: Modules) -> bool:
        """Whether an image of these modules should be prepared."""
        self._learned[function] = modules
        self._learned.move_to_end(function)
        if len(self._learned) > FUNCTIONS_LEARNED_MAX:
            self._learned.popitem(last=False)
        if not modules or self._images_max <= 0 or (kind, modules) in self._refused:
            return False
        if any(image.kind == kind and image.wanted == modules for image in self._images):
            return False
        return self._best(kind, modules) is None

    def known(self, function: Hashable) -> Modules:
        """What the function was seen to import."""
        return self._learned.get(function, ())

    def add(self, image: Image[Z]) -> None:
        """One that is being prepared. Where there are too many, the least recently used one without environments goes;
        where all have some, the least recently used one takes no more."""
        while len(self._images) >= self._images_max:
            idle = (each for each in self._images if not each.environments)
            self.drop(next(idle, self._images[0]))
        self._images.append(image)

    def prepared(self, image: Image[Z], modules: Iterable[str]) -> None:
        image.modules = frozenset(modules)
        if not image.modules:
            self.refuse(image)

    def refuse(self, image: Image[Z]) -> None:
        """It could not be prepared; it is not tried again."""
        self._refused[image.kind, image.wanted] = None
        if len(self._refused) > IMAGES_REFUSED_MAX:
            self._refused.popitem(last=False)
        self.drop(image)

    def drop(self, image: Image[Z]) -> None:
        if image in self._images:
            self._images.remove(image)
            self._retire(image)

    def lost(self, zygote: Z) -> None:
        """Its process is gone."""
        self._images = [image for image in self._images if image.zygote is not zygote]

    def choose(self, function: Hashable, kind: Hashable) -> Image[Z] | None:
        image = self._best(kind, self._learned.get(function, ()))
        if image is not None:
            self._images.remove(image)
            self._images.append(image)
        return image

    def clear(self) -> None:
        for image in list(self._images):
            self.drop(image)

    def _best(self, kind: Hashable, modules: Modules) -> Image[Z] | None:
        if not modules:
            return None
        names, packages = frozenset(modules), packages_of(modules)
        fitting = [
            image
            for image in self._images
            if image.kind == kind and image.modules and packages_of(image.modules) <= packages
        ]
        best = max(fitting, key=lambda image: len(image.modules & names), default=None)
        return best if best is not None and len(best.modules & names) >= _COVERED_MIN * len(names) else None
