"""Links between P and ln(learning rate) fitted to a sweep of learning rates, with standard errors.

Two kinds of data. Counts of patterns have binomial errors: maximum likelihood, by Fisher's scoring, which is weighted
least squares with the weights of the fit. Shares without counts, such as 1 - 2^-T of a network's mean temperature, are
fitted by plain least squares in P, as the paper does; the errors then come from the scatter about the curve.

Where a link is not exact the two differ. For an `ErfLink` and patterns that change in proportion to the rate, least
squares has sigma = 1.17, and the likelihood, which counts the tails for more, 1.32. What not to do is a straight line
through Phi^-1(P) against ln(learning rate), unweighted: tails without digits then decide, and the same data give 1.4 to
1.9 for 131072 to 128 patterns.

Derived for jostle from the standard theory of generalised linear models.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.estimate import Estimate
from theory.flip_rate_link import LINKS, CloglogLink, ErfLink, Link
from theory.noise_arguments import real_numbers
from theory.pattern_temperature import checked_shares, temperature_of

FEWEST_EXPECTED = 5.0
"""Changed, and unchanged, patterns that a rate must expect to count in the test of the fit."""

CLEAR_SHARE = 0.001
"""Shares within this of 0 or 1 say nothing about a link that is fitted in P."""

LEAST_RANGE = 1e-6
"""Of the logarithms of the rates."""

LARGEST_LOG_RATE = 746.0
"""Of a float that is not 0 and not infinite."""

MOST_PATTERNS = 1e15
"""Counts beyond are no exact floats."""

ITERATIONS = 200


@dataclass(frozen=True, eq=False)
class LinkFit:
    """A fitted link, x = ln(learning rate) = location + scale * score.

    Attributes:
        link: with the estimated parameters.
        location: mu of an `ErfLink`, ln(rate_1) of a `CloglogLink`. Errors are scaled as ``dispersion`` says; n is the
            number of rates less one, so that Student's t has the right degrees of freedom.
        scale: sigma, or 1 / k; likewise.
        slope: 1 / sigma, or k; likewise.
        covariance: of location and scale, as the model of the errors has it, not scaled, shape (2, 2).
        log_rates: x of the data, ascending, shape (n,).
        shares: P of the data, shape (n,).
        residuals: measured less fitted P, shape (n,).
        chi_square: Pearson's, over the rates that expect at least five changed and five unchanged patterns; 0 for
            shares without counts.
        degrees_of_freedom: of it: those rates less two, or 0.
        p_value: of it; 1 where there are no degrees of freedom.
        dispersion: chi-square over its degrees of freedom, at least 1: standard errors of fits to counts are scaled by
            its root. Patterns at neighbouring positions change together, and no link is exact; 1 for shares.
    """

    link: ErfLink | CloglogLink
    location: Estimate
    scale: Estimate
    slope: Estimate
    covariance: Floats
    log_rates: Floats
    shares: Floats
    residuals: Floats
    chi_square: float
    degrees_of_freedom: int
    p_value: float
    dispersion: float

    @property
    def error(self) -> float:
        """Root mean square of the residuals, in P."""
        return float(np.sqrt(np.mean(self.residuals**2)))

    @property
    def explained(self) -> float:
        """R^2, the part of the variance of P over the sweep that the link explains."""
        return float(1 - np.sum(self.residuals**2) / np.sum((self.shares - self.shares.mean()) ** 2))


def fit_link_to_counts(
    log_rates: npt.ArrayLike, changed: npt.ArrayLike, patterns: npt.ArrayLike, link: str = "erf"
) -> LinkFit:
    """Maximum likelihood of a link, with binomial counts at each learning rate.

    Args:
        log_rates: x = ln(learning rate), finite, at least two different, shape (n,).
        changed: patterns that changed, shape (n,).
        patterns: patterns compared, >= 1, a number or shape (n,).
        link: ``"erf"`` or ``"cloglog"``.

    Returns:
        The fit.

    Raises:
        ValueError: for arguments out of range, or data without a best fit: the shares must rise with the rate, and
            the rates at which some change and those at which some do not must overlap.

    Example:
        >>> fit = fit_link_to_counts(np.log([0.01, 0.03, 0.1, 0.3, 1.0]), [11, 75, 340, 770, 971], 1000)
        >>> round(fit.location.value, 2), round(fit.scale.value, 2), fit.degrees_of_freedom
        (-1.95, 1.06, 3)
    """
    family, x = _family(link), real_numbers("log_rates", log_rates)
    total, some = real_numbers("patterns", patterns), real_numbers("changed", changed)
    if total.ndim == 0:
        total = np.full(x.shape, float(total))
    x, some, total = _checked_columns(x, changed=some, patterns=total)
    if not ((total >= 1) & (total <= MOST_PATTERNS)).all():
        raise ValueError(f"patterns={patterns} must be finite and >= 1 at each rate, {MOST_PATTERNS:g} at most")
    if not ((some >= 0) & (some <= total)).all():
        raise ValueError(f"changed={changed} must lie between 0 and the {patterns} patterns at each rate")
    _check_overlap(x, some, total)

    def deviance(score: Floats) -> float:
        here, there = family.log_changed(score), family.log_unchanged(score)
        return -float(some[some > 0] @ here[some > 0] + (total - some)[some < total] @ there[some < total])

    def derivatives(score: Floats) -> tuple[Floats, Floats]:
        density, here, there = family.log_density(score), family.log_changed(score), family.log_unchanged(score)
        gradient = some * np.exp(density - here) - (total - some) * np.exp(density - there)
        return gradient, total * np.exp(2 * density - here - there)

    centre = float(np.average(x, weights=total))
    start = _start(family, x - centre, (some + 0.5) / (total + 1), total)
    line, information = _scoring(x - centre, deviance, derivatives, start)
    fitted = family.log_changed(line[0] + line[1] * (x - centre))
    expected = total * np.exp(fitted)
    usable = np.minimum(expected, total - expected) >= FEWEST_EXPECTED
    variance = expected[usable] * (1 - expected[usable] / total[usable])
    chi_square = float(np.sum((some - expected)[usable] ** 2 / variance))
    freedom = max(int(usable.sum()) - 2, 0)
    return _finished(family, x, some / total, centre, line, information, chi_square, freedom)


def fit_link_to_shares(log_rates: npt.ArrayLike, shares: npt.ArrayLike, link: str = "erf") -> LinkFit:
    """Least squares of a link, for shares of which only the values are known, all with the same error.

    The errors of the parameters are those of independent residuals. Where the link is not exact, residuals of
    neighbouring rates have the same sign, and the errors are a guide only.

    Args:
        log_rates: x = ln(learning rate), finite, at least three different, shape (n,).
        shares: P, shape (n,); of temperatures T, `share_of(T)`.
        link: ``"erf"`` or ``"cloglog"``.

    Returns:
        The fit.

    Raises:
        ValueError: for arguments out of range, or if the shares do not rise from small to large over the rates.

    Example:
        >>> x = np.linspace(-6.0, 1.0, 12)
        >>> fit = fit_link_to_shares(x, ErfLink(-2.0, 1.3).share(x))
        >>> round(fit.link.location, 9), round(fit.link.scale, 9)
        (-2.0, 1.3)

    Reference: [actcoolr2021] section 3.4 for least squares
    """
    family = _family(link)
    x, share = _checked_columns(
        real_numbers("log_rates", log_rates), shares=np.atleast_1d(checked_shares("shares", shares))
    )
    if len(np.unique(x)) < 3:
        raise ValueError(f"log_rates={x.tolist()} must hold at least three different ones, to tell the scatter")
    _check_overlap(x, share, np.ones_like(share))
    between = (share >= CLEAR_SHARE) & (share <= 1 - CLEAR_SHARE)
    if len(np.unique(x[between])) < 2:
        raise ValueError(
            f"shares must lie between {CLEAR_SHARE} and {1 - CLEAR_SHARE} at two rates at least, else any steep link "
            "fits; sweep more finely where patterns begin to change"
        )

    def squares(score: Floats) -> float:
        return 0.5 * float(np.sum((share - np.exp(family.log_changed(score))) ** 2))

    def derivatives(score: Floats) -> tuple[Floats, Floats]:
        density = np.exp(family.log_density(score))
        return density * (share - np.exp(family.log_changed(score))), density**2

    centre = float(x.mean())
    starts = [_start(family, x[between] - centre, share[between], np.ones(between.sum()))]
    # The regression may start on a plateau of the squares; curves through all rates and between them are alternatives.
    places = np.concatenate([x, (x[1:] + x[:-1]) / 2]) - centre
    starts += [np.array([-slope * at, slope]) for at in places for slope in (0.3, 0.6, 1.0, 2.0, 4.0)]
    start = min(starts, key=lambda line: squares(line[0] + line[1] * (x - centre)))
    line, information = _scoring(x - centre, squares, derivatives, start)
    scatter = 2 * squares(line[0] + line[1] * (x - centre)) / (len(x) - 2)
    # Errors can't be smaller than rounding: a perfect fit is one of exact data.
    information = information / max(scatter, 1e-32)
    return _finished(family, x, share, centre, line, information, 0.0, 0)


def _family(link: str) -> type[Link]:
    if link not in LINKS:
        raise ValueError(f"link={link!r} must be one of {', '.join(LINKS)}")
    return LINKS[link]


def _checked_columns(x: Floats, **columns: Floats) -> tuple[Floats, ...]:
    """All in the order of ascending rates."""
    if x.ndim != 1 or not np.isfinite(x).all() or len(np.unique(x)) < 2:
        raise ValueError(f"log_rates of shape {x.shape} must be one dimension of finite numbers, two of them different")
    if np.ptp(x) < LEAST_RANGE:
        raise ValueError(f"log_rates span {np.ptp(x):g}; a slope needs {LEAST_RANGE:g} at least")
    if np.abs(x).max() > LARGEST_LOG_RATE:
        raise ValueError(
            f"log_rates reach {np.abs(x).max():g} in size; logarithms of rates stay below {LARGEST_LOG_RATE:g}"
        )
    for name, column in columns.items():
        if column.shape != x.shape:
            raise ValueError(f"{name} of shape {column.shape} must have the shape of log_rates, {x.shape}")
    order = np.argsort(x, kind="stable")
    return x[order], *(column[order] for column in columns.values())


def _check_overlap(x: Floats, some: Floats, total: Floats) -> None:
    """A best fit of finite, positive slope needs data that no step function explains."""
    changed, unchanged = x[some > 0], x[some < total]
    if not len(changed) or not len(unchanged):
        what = "none" if not len(changed) else "all"
        remedy = "higher" if not len(changed) else "lower"
        raise ValueError(f"{what} of the patterns changed at all rates: sweep {remedy} learning rates too")
    if changed.min() >= unchanged.max():
        raise ValueError(
            f"patterns begin to change at ln(rate)={changed.min():g}, and all do beyond {unchanged.max():g}: any steep "
            "link fits; sweep more finely in between"
        )
    if changed.max() <= unchanged.min():
        raise ValueError("the share of changed patterns does not rise with the learning rate: every link does")


def _start(family: type[Link], x: Floats, shares: Floats, weights: Floats) -> Floats:
    """Intercept and slope of a weighted regression of the scores."""
    score = family.score(temperature_of(shares))
    weights = weights * np.exp(2 * family.log_density(score)) / (shares * (1 - shares))
    mean_x, mean_score = np.average(x, weights=weights), np.average(score, weights=weights)
    spread = float(np.average((x - mean_x) ** 2, weights=weights))
    slope = np.average((x - mean_x) * (score - mean_score), weights=weights) / spread if spread > 0 else 1.0
    if not 1e-3 < slope < 1e3:
        slope = 1.0
    return np.array([mean_score - slope * mean_x, slope])


def _scoring(
    x: Floats,
    objective: Callable[[Floats], float],
    derivatives: Callable[[Floats], tuple[Floats, Floats]],
    start: Floats,
) -> tuple[Floats, Floats]:
    """Intercept and slope at the minimum, and the information there: damped Gauss-Newton steps.

    Args:
        x: centred log rates.
        objective: of the scores, to be minimised.
        derivatives: of the scores: minus its gradient, and the weights of its expected curvature.
        start: intercept and slope.
    """
    design = np.stack([np.ones_like(x), x])
    line, value, damping = start, objective(start[0] + start[1] * x), 0.0
    for _ in range(ITERATIONS):
        gradient, weight = derivatives(line[0] + line[1] * x)
        information = (design * weight) @ design.T
        scale = np.sqrt(np.diag(information))
        if not (scale > 0).all() or not np.isfinite(information).all():
            break
        normal = information / np.outer(scale, scale)
        if np.linalg.cond(normal) > 1e12:
            break
        newton = np.linalg.solve(normal + damping * np.eye(2), design @ gradient / scale) / scale
        candidate = line + newton
        new_value = objective(candidate[0] + candidate[1] * x) if np.abs(candidate).max() < 1e6 else math.inf
        if np.abs(newton * scale).max() <= 1e-9 * max(math.sqrt(abs(value)), 1e-9) and new_value >= value:
            return _rising(line), information
        if new_value <= value:
            line, value, damping = candidate, new_value, damping / 10 if damping > 1e-6 else 0.0
            if np.abs(newton).max() <= 1e-13 * np.abs(line).max():
                return _rising(line), information
        else:
            damping = max(10 * damping, 1e-4)
            if damping > 1e12:  # no descent at the accuracy of floats: this is the minimum
                return _rising(line), information
    raise ValueError(
        "the fit does not converge: sweep more finely where the share of changed patterns goes from 0.05 to 0.95"
    )


def _rising(line: Floats) -> Floats:
    if not line[1] > 0:
        raise ValueError("the share of changed patterns does not rise with the learning rate: every link does")
    return line


def _finished(
    family: type[Link],
    x: Floats,
    shares: Floats,
    centre: float,
    line: Floats,
    information: Floats,
    chi_square: float,
    freedom: int,
) -> LinkFit:
    intercept, slope = float(line[0]), float(line[1])
    location, scale = centre - intercept / slope, 1 / slope
    # location - centre = -a / b and scale = 1 / b, so that their errors follow from those of a and b.
    jacobian = np.array([[-scale, intercept * scale**2], [0.0, -(scale**2)]])
    covariance: Floats = np.asarray(jacobian @ np.linalg.inv(information) @ jacobian.T, dtype=float)
    if freedom > 0:
        from scipy.special import chdtrc

        p_value, dispersion = float(chdtrc(freedom, chi_square)), max(chi_square / freedom, 1.0)
    else:
        p_value, dispersion = 1.0, 1.0
    n, (of_location, of_scale) = len(x) - 1, np.sqrt(dispersion * np.diag(covariance)).tolist()
    link = ErfLink(location, scale) if family is ErfLink else CloglogLink(location, slope)
    return LinkFit(
        link,
        Estimate(location, of_location, n),
        Estimate(scale, of_scale, n),
        Estimate(slope, of_scale / scale**2, n),
        covariance,
        x,
        shares,
        shares - np.exp(family.log_changed(intercept + slope * (x - centre))),
        chi_square,
        freedom,
        p_value,
        dispersion,
    )
