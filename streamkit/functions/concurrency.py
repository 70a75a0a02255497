"""How many invocations may run at once: the account's share and a function's own, as AWS counts them.

A reservation is taken out of the account's pool whether it is used or not (AWS Lambda developer guide, "Configuring
reserved concurrency").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from streamkit.functions.state import FunctionState
from streamkit.model.errors import TooManyRequests
from streamkit.model.limits import ACCOUNT_CONCURRENCY
from streamkit.model.names import Scope

_RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"
_ACCOUNT = "ConcurrentInvocationLimitExceeded"


class Reservation(NamedTuple):
    """What an invocation holds while it runs."""

    scope: Scope
    function_id: str
    is_reserved: bool


class Concurrency:
    def __init__(self, account_max: int = ACCOUNT_CONCURRENCY) -> None:
        self.account_max = account_max
        self._running: Counter[str] = Counter()  # by function
        self._unreserved: Counter[Scope] = Counter()  # of functions without a reservation
        self._reserved: dict[Scope, dict[str, int]] = {}

    def reserve(self, function: FunctionState) -> None:
        """Takes note of a function's reservation, or that it has none."""
        reserved = self._reserved.setdefault(function.scope, {})
        if function.reserved_concurrency is None:
            reserved.pop(function.id, None)
        else:
            reserved[function.id] = function.reserved_concurrency

    def forget(self, function: FunctionState) -> None:
        self._reserved.get(function.scope, {}).pop(function.id, None)

    def acquire(self, function: FunctionState) -> Reservation:
        """Raises TooManyRequests, with AWS's reason."""
        scope = function.scope
        reserved = function.reserved_concurrency
        if reserved is not None:
            if self._running[function.id] >= reserved:
                raise TooManyRequests(_RESERVED)
        else:
            pool = self.account_max - sum(self._reserved.get(scope, {}).values())
            if self._unreserved[scope] >= pool:
                raise TooManyRequests(_ACCOUNT)
            self._unreserved[scope] += 1
        self._running[function.id] += 1
        return Reservation(scope, function.id, reserved is not None)

    def release(self, reservation: Reservation) -> None:
        running = self._running
        running[reservation.function_id] -= 1
        if not running[reservation.function_id]:
            del running[reservation.function_id]
        if not reservation.is_reserved:
            self._unreserved[reservation.scope] -= 1

    def running(self, function_id: str) -> int:
        return self._running.get(function_id, 0)

    def all_running(self) -> Iterator[tuple[str, int]]:
        """By function id."""
        return iter(self._running.items())
