# The optional extension, _fast.c.
from collections.abc import Callable
from typing import Any, TypeVar, final

F = TypeVar("F", bound=Callable[..., Any])

def accelerate(function: F, doc: str, home: str, /) -> F: ...
def run_plan(
    record: bytes, packed: type, a: object, b: object, out: object, alpha: object, beta: object, /
) -> bool: ...

@final
class Bound:
    keep: Any
    result: Any
    def __new__(
        cls,
        function: int,
        argument: int,
        keep: object,
        result: object = None,
        failed: Callable[[int], object] | None = None,
        unlock: bool = False,
    ) -> Bound: ...
    def __call__(self) -> Any: ...
