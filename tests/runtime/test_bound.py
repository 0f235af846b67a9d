"""`Bound`: a C function and its argument as a Python callable without arguments."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tilewright.runtime as tw
from tilewright.runtime._library import ffi, lib, raise_for, text

fast = pytest.importorskip("tilewright.runtime._fast", reason="the extension was not built")

SET_ISA = int(ffi.cast("intptr_t", ffi.addressof(lib, "tw_isa_set")))
"""An ``int function(const char *)`` of ours: 0, or TW_ERROR_ISA for an unknown name."""


def address(of: Any) -> int:
    return int(ffi.cast("intptr_t", of))


@pytest.fixture(autouse=True)
def isa_as_before() -> Iterator[None]:
    before = lib.tw_isa_current()
    yield
    lib.tw_isa_set(lib.tw_isa_name(before) if before >= 0 else ffi.NULL)


@pytest.mark.parametrize("unlock", [False, True])
def test_a_call_runs_the_function_with_its_argument(unlock: bool) -> None:
    """The wrong address called, or with the wrong argument, or its result lost."""
    result = np.ones(3)
    name = ffi.new("char[]", b"scalar")
    bound = fast.Bound(SET_ISA, address(name), name, result, unlock=unlock)
    assert bound() is result
    assert text(lib.tw_isa_name(lib.tw_isa_current())) == "scalar"
    assert bound.result is result
    assert bound.keep is name


@pytest.mark.parametrize("unlock", [False, True])
def test_a_status_raises(unlock: bool) -> None:
    """An error in C that Python never hears of."""
    name = ffi.new("char[]", b"none such")
    with pytest.raises(tw.IsaError, match="none such"):
        fast.Bound(SET_ISA, address(name), name, None, raise_for, unlock)()
    with pytest.raises(RuntimeError, match=f"Bound: the function returned status {lib.TW_ERROR_ISA}"):
        fast.Bound(SET_ISA, address(name), name)()


def test_a_struct_is_read_and_written() -> None:
    """What a plan will do: one pointer to all it needs."""

    class Call(ctypes.Structure):
        _fields_ = (("times", ctypes.c_int), ("values", ctypes.c_void_p))

    def double(call: Any) -> int:
        call.contents.times += 1
        ctypes.cast(call.contents.values, ctypes.POINTER(ctypes.c_double))[0] *= 2
        return 0

    in_c = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Call))(double)
    values = np.array([3.0])
    call = Call(0, values.ctypes.data)
    function = ctypes.cast(in_c, ctypes.c_void_p).value
    bound = fast.Bound(function, ctypes.addressof(call), (values, call, in_c), values)
    assert bound() is values
    assert bound()[0] == 12
    assert call.times == 2


def test_arguments_of_a_call_are_refused() -> None:
    """bound(a): the array bound before would be used, and the one given ignored."""
    name = ffi.new("char[]", b"scalar")
    bound = fast.Bound(SET_ISA, address(name), name)
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = [((1,), {}), ((), {"out": 1}), ((1, 2), {"x": 1})]
    for arguments, options in given:
        with pytest.raises(TypeError, match="Bound: it is called without arguments"):
            bound(*arguments, **options)
    assert bound(*(), **{}) is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), TypeError),
        ((0, 0, None), ValueError),
        (("f", 0, None), TypeError),
        ((SET_ISA, 1.5, None), TypeError),
        ((SET_ISA, 0), TypeError),
        ((2**70, 0, None), OverflowError),
        ((SET_ISA, 2**70, None), OverflowError),
        ((SET_ISA, 0, None, None, 3), ValueError),
    ],
)
def test_what_cannot_be_bound_is_refused(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    """A jump to address 0, or to half of an address."""
    with pytest.raises(error):
        fast.Bound(*arguments)


def test_it_keeps_what_it_needs_and_nothing_longer() -> None:
    """Arrays freed while C still points at them; arrays never freed."""

    class Array(np.ndarray[Any, Any]):
        pass

    name = ffi.new("char[]", b"scalar")
    array = np.ones(3).view(Array)
    alive = weakref.ref(array)
    kept = [array]
    before = sys.getrefcount(array)
    bound = fast.Bound(SET_ISA, address(name), kept, array)
    for _ in range(100):
        bound()
    assert sys.getrefcount(array) == before + 1
    del array, kept
    assert alive() is not None
    assert bound() is alive()
    del bound
    assert alive() is None


def test_a_cycle_through_it_is_collected() -> None:
    """A plan that holds its bound object, which holds the plan."""

    class Plan:
        bound: Any

    plan = Plan()
    plan.bound = fast.Bound(SET_ISA, 0, plan)
    alive = weakref.ref(plan)
    del plan
    gc.collect()
    assert alive() is None


def test_its_type_cannot_be_subclassed_or_changed() -> None:
    """A subclass whose __call__ vectorcall would never look at."""
    with pytest.raises(TypeError):
        type("Sub", (fast.Bound,), {})
    with pytest.raises(TypeError):
        fast.Bound.__call__ = None
