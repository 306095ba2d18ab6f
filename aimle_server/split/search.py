"""The best plan over all cuts of a model, with few measurements.

Between n cuts and the two ends there are (n + 1)(n + 2) / 2 parts, and most cannot be in the best plan whatever they
take. So a plan is made as if each part that was not measured took the least that it can; the parts of that plan are
measured, and so on, until all parts of the best plan are. No other plan is better then, by two rules:

- A part takes at least as long as any part of it.
- Two parts, one after the other, take at least as long as both in one: reading and writing frames comes twice, and a
  runtime fuses only what it has.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import numpy as np

from aimle_server.split.planner import Array, NoPlan, Objective, Plan, Problem, Stage, plan

Measured = dict[tuple[int, int], float | None]
"""Seconds of a part, by its first and its last border; None: the node cannot run it, which says nothing of others."""

Known = dict[str, Measured]
"""What was measured, by node."""


async def seek(
    problem: Problem,
    objective: Objective,
    known: Known,
    measure: Callable[[Stage], Awaitable[None]],
    *,
    confirm: bool = False,
) -> Plan:
    """The best plan; all of its parts are measured.

    Args:
        problem: its times do not count.
        known: what was measured.
        measure: adds what a stage takes to `known`, or takes its node out of it.
        confirm: parts of the best plan are measured once more, because of many that were measured those look best
            that were lucky.

    Raises:
        NoPlan: none is possible.
    """
    confirmed: set[Stage] = set()
    while known:
        times = {node: least_times(measured, len(problem.sizes)) for node, measured in known.items()}
        best = await asyncio.to_thread(plan, replace(problem, times=times), objective)
        unknown = {
            stage for stage in best.stages if (stage.first_cut, stage.last_cut) not in known[stage.node]
        }
        if not unknown and confirm:
            unknown = set(best.stages) - confirmed
            confirmed |= unknown
        if not unknown:
            return best
        await asyncio.gather(*map(measure, unknown))
    raise NoPlan("no node answers")


def least_times(measured: Measured, borders: int) -> Array:
    """Seconds of each part, or the least that it can take: as `times` of a Problem."""
    found = _bounds({part: seconds for part, seconds in measured.items() if seconds is not None}, borders)
    for part, seconds in measured.items():
        found[part] = math.inf if seconds is None else seconds
    found[np.tril_indices(borders)] = math.inf
    return found


def _bounds(measured: Mapping[tuple[int, int], float], borders: int) -> Array:
    exact = np.full((borders, borders), np.nan)
    for part, seconds in measured.items():
        exact[part] = seconds
    least = np.nan_to_num(exact)
    for begin in {first for first, _ in measured}:  # by what was measured of two parts that begin alike,
        least = np.fmax(least, exact[begin] - exact[begin][:, None])
    for end in {last for _, last in measured}:  # or that end alike: the rest of the longer one
        least = np.fmax(least, exact[:, end][:, None] - exact[:, end])
    return _largest_within(np.triu(least))


def _largest_within(seconds: Array) -> Array:
    """Of each part the most that one within it has."""
    ending_before = np.maximum.accumulate(seconds, axis=1)
    found: Array = np.maximum.accumulate(ending_before[::-1], axis=0)[::-1]
    return found
