# SPDX-License-Identifier: Apache-2.0
"""What a modelled thread can do: one access to memory, one barrier or one futex call at a time."""

from __future__ import annotations

from typing import NamedTuple

RELAXED, ACQUIRE, RELEASE = "relaxed", "acquire", "release"


class Violation(Exception):
    """The protocol broke a promise; the text says which."""


class Load(NamedTuple):
    """An atomic load; its result is the value."""

    word: str
    order: str


class Store(NamedTuple):
    """An atomic store."""

    word: str
    value: int
    order: str


class Add(NamedTuple):
    """An atomic read-modify-write, acquire and release; its result is the old value."""

    word: str
    value: int


class Swap(NamedTuple):
    """An atomic exchange, acquire and release; its result is the old value."""

    word: str
    value: int


class Put(NamedTuple):
    """An ordinary store to a word of a record or a reply."""

    word: str
    value: int


class Get(NamedTuple):
    """An ordinary load of a word of a record or a reply; its result is the value."""

    word: str


class Fence(NamedTuple):
    """A full fence of this thread."""


class Membarrier(NamedTuple):
    """membarrier(GLOBAL_EXPEDITED): before it returns every thread has passed a full fence, each at its own instant."""


class FutexWait(NamedTuple):
    """Sleeps if the word has this value; compare and sleep are one step. Result 1: slept and was woken; 0: not."""

    word: str
    expected: int


class FutexWake(NamedTuple):
    """Wakes up to `count` sleepers of the word; its result is how many."""

    word: str
    count: int


class Lock(NamedTuple):
    """Takes a lock of the process's own, as soon as it is free; such a lock is right by itself (pthreads)."""

    word: str


class Unlock(NamedTuple):
    word: str


Op = (
    Load
    | Store
    | Add
    | Swap
    | Put
    | Get
    | Fence
    | Membarrier
    | FutexWait
    | FutexWake
    | Lock
    | Unlock
)
