"""Whether two settings differ by more than their seeds do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import pstdev

LEAST_SEEDS = 3  # With fewer, a deviation says next to nothing.


def compare_seeds(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[str, float] | None:
    """Test whether two settings have the same mean.

    Args:
        a: Values of one setting by seed.
        b: Values of the other.

    Returns:
        ``"paired"`` (t-test over the common seeds, where there are three) or ``"Welch"`` (where
        each has three of its own), and the two-sided p. :obj:`None` where there are too few seeds,
        or the values do not vary.

    Example:
        >>> name, p = compare_seeds({"0": 1.0, "1": 2.0, "2": 3.0}, {"0": 2.0, "1": 3.1, "2": 3.9})
        >>> name, round(p, 4)
        ('paired', 0.0033)
    """
    from scipy import stats

    common = sorted(a.keys() & b.keys())
    if len(common) >= LEAST_SEEDS:
        x, y = [a[seed] for seed in common], [b[seed] for seed in common]
        if _vary([p - q for p, q in zip(x, y, strict=True)]):
            return "paired", float(stats.ttest_rel(x, y).pvalue)
    elif min(len(a), len(b)) >= LEAST_SEEDS:
        x, y = list(a.values()), list(b.values())
        if _vary(x) or _vary(y):
            return "Welch", float(stats.ttest_ind(x, y, equal_var=False).pvalue)
    return None


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm's step-down method).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected, least = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = least
    return corrected


def _vary(values: Sequence[float]) -> bool:
    """Whether by more than floats are rounded."""
    return pstdev(values) > 1e-12 * max(map(abs, values), default=0.0)
