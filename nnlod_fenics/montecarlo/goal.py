"""When a run has enough samples: the sample numbers of its rounds, and what ends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from nnlod_fenics.config.montecarlo import LEAST, MonteCarloSettings
from nnlod_fenics.errors import InputError
from nnlod_fenics.montecarlo.allocation import LEAST_PAIRS, Plan

__all__ = ["Goal"]

_FIRST = 32  # plain samples before the error is looked at
_CONFIRM = 1.25  # growth between a look at which the tolerance holds and the one that confirms it


class Goal:
    """Leads a run from round to round.

    Without ``tolerance`` and ``seconds`` there is one round. With ``seconds`` alone each doubles the samples before.
    With ``tolerance`` the error is looked at after each round, and the next one is as long as it promises to take, up
    to four times of what there is. The first round of ``"multifidelity"`` has the fewest pairs and as many samples of
    the other models as the pilot run finds worth while for the tolerance
    (:func:`nnlod_fenics.montecarlo.choice.choose`): up to whole blocks, it costs no more than the cheapest run
    of at least so many pairs that is predicted to reach the tolerance.

    A width that is looked at again and again is below the tolerance first where it happens to be estimated too small.
    So the tolerance must hold at two consecutive looks, the second one with a quarter more samples. Measured with
    ``run`` of tests/montecarlo/test_goal.py, on runs that stop by the half-width of a 95 % interval after two to four
    looks (at some tens to hundreds of samples): for a quantity exp(0.3 ξ), ξ standard normal, the interval held the
    expectation in 94.5 to 95.2 % of 4,000 plain runs and 94.6 to 95.3 % of 4,000 ``"multifidelity"`` runs, by
    tolerance. Heavy tails cost more: exp(ξ) in 87 % (tolerance 0.5) and 89 % (0.3) of the plain runs, where fixed
    numbers of 72 and 200 samples have 91 and 93 % and a single look 87 and 84 %, and in 94 % of 1,000
    ``"multifidelity"`` runs.

    Args:
        settings: The settings.
        plan: Allocation, for ``"multifidelity"``.
        sizes: Samples of a block, by stream.

    Raises:
        InputError: If ``samples`` leaves too few after the pilot run.
    """

    def __init__(self, settings: MonteCarloSettings, plan: Plan | None, sizes: Mapping[str, int]) -> None:
        self._settings, self._plan, self._sizes = settings, plan, sizes
        self._target, self._held = 0, False
        self._most: float = math.inf
        if settings.samples is not None:
            self._most = settings.samples if plan is None else plan.pairs_for(plan.budget)
        if self._most < LEAST:
            raise InputError(
                f"samples must be larger, got {settings.samples}: the pilot run has cost so much of it that "
                f"{self._most} of the at least {LEAST} further samples of {settings.reference!r} can be paid for."
            )

    def next(self, width: Callable[[], float]) -> dict[str, int] | str:
        """What the next round is to reach.

        Args:
            width: The current width, of all samples that the rounds before were to reach.

        Returns:
            Number of samples, by stream; or why the run is over: ``"samples"`` or ``"tolerance"``.
        """
        target = self._next_target(width)
        if isinstance(target, str):
            return target
        self._target = target
        return self._counts(target)

    def _next_target(self, width: Callable[[], float]) -> int | str:
        settings, done, most = self._settings, self._target, self._most
        if done == 0:
            first = _FIRST if self._plan is None else LEAST_PAIRS
            return int(most if self._one_round else min(first, most))
        wanted: float = 2 * done
        if settings.tolerance is not None:
            share = width() / settings.tolerance
            if share <= 1 and self._held:
                return "tolerance"
            self._held = share <= 1
            wanted = _CONFIRM * done if self._held else min(1.1 * share**2, 4.0) * done
        if done >= most:
            return "samples"
        size = self._sizes["samples"]
        return int(min(max(math.ceil(wanted / size) * size, done + size), most))

    @property
    def _one_round(self) -> bool:
        return self._settings.tolerance is None and self._settings.seconds is None

    def _counts(self, pairs: int) -> dict[str, int]:
        """Samples of each stream; those without the reference in whole blocks where another round may follow."""
        counts = {"samples": pairs} if self._plan is None else self._plan.counts(pairs)
        if not self._one_round:
            counts |= {
                kind: -(-count // size) * size
                for kind, count in counts.items()
                if kind != "samples" and (size := self._sizes[kind])
            }
        return counts
