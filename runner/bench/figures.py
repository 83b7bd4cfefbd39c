"""Percentiles and ratios, each with the interval that the true one lies in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SAMPLES = 2000
_LEVEL = 95  # per cent

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % confidence interval (percentile bootstrap, Efron 1979)."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 2) -> str:
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def percentile(values: Sequence[float], share: float) -> Figure:
    """The percentile ``share`` (of 100) of ``values``, at least one.

    Turns are drawn one by one: those of a round are taken as independent.
    """
    given = np.asarray(values, np.float64)
    return _figure(
        float(np.percentile(given, share)), lambda draw: _percentiles(draw, given, share)
    )


def ratio(one: Sequence[float], other: Sequence[float], share: float) -> Figure:
    """How many times a percentile of ``other`` that of ``one`` is."""
    return _compared(np.divide, one, other, share)


def difference(one: Sequence[float], other: Sequence[float], share: float) -> Figure:
    """How much more a percentile of ``one`` is than that of ``other``."""
    return _compared(np.subtract, one, other, share)


def _compared(how: np.ufunc, one: Sequence[float], other: Sequence[float], share: float) -> Figure:
    first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    value = float(how(np.percentile(first, share), np.percentile(second, share)))
    return _figure(
        value,
        lambda draw: how(_percentiles(draw, first, share), _percentiles(draw, second, share)),
    )


def _percentiles(draw: np.random.Generator, values: Values, share: float) -> Values:
    drawn = draw.choice(values, (_SAMPLES, len(values)))
    cuts: Values = np.percentile(drawn, share, axis=1)
    return cuts


def _figure(value: float, sampled: Callable[[np.random.Generator], Values]) -> Figure:
    """Always the same for the same values."""
    samples = sampled(np.random.default_rng(1))
    low, high = np.percentile(samples, [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2])
    return Figure(value, float(low), float(high))
