"""An enzyme as a restarted process: unbinding begins catalysis anew."""

import math

from theory.law_arguments import nonnegative
from theory.passage_law_base import PassageLaw
from theory.restart_attempt import attempt


def michaelis_menten(binding_mean: float, catalysis: PassageLaw, unbinding: PassageLaw) -> float:
    """Mean turnover time of an enzyme: unbinding restarts catalysis, at the cost of binding again.

    (E[T_on] + E[min(T_cat, T_off)]) / Pr(T_cat < T_off). Unbinding accelerates the turnover if
    CV_cat^2 > 1 + 2 E[T_on] / E[T_cat]: see theory.restart_criterion.restart_helps, with E[T_on] as the overhead.

    Args:
        binding_mean: E[T_on] >= 0 of the free enzyme, 1 / (k_on S) [time].
        catalysis: law of T_cat.
        unbinding: law of T_off.

    Returns:
        [time]; ``inf`` where no catalysis is ever completed.

    Raises:
        ValueError: for a negative binding mean.

    Example:
        >>> from theory.waiting_times import Exponential
        >>> round(michaelis_menten(1.0, Exponential(3.0), Exponential(2.0)), 12)  # k_on S, k_cat, k_off = 1, 3, 2
        2.0

    Reference: [reuveni2014]
    """
    binding_mean = float(nonnegative("binding_mean", binding_mean))
    bound = attempt(catalysis, unbinding)
    return math.inf if bound.success == 0 else (binding_mean + bound.duration) / bound.success
