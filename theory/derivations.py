"""All derivations by computer algebra, by their names."""

from theory import symbolic, symbolic_weight_variance
from theory.symbolic_derivation import Derivation

SUBJECTS = {"restart": symbolic.catalogue, "weight_variance": symbolic_weight_variance.catalogue}
"""What the derivations are about: restarted first-passage times, and the weight variance of SGD."""


def derivation_names(*subjects: str) -> list[str]:
    """All derivations, or those about some subjects.

    Args:
        subjects: of ``SUBJECTS``; all of them without one.

    Returns:
        Their names, such as ``"poisson_mean brownian"`` or ``"weight_variance reshuffled"``.

    Raises:
        ValueError: for another subject.

    Example:
        >>> len(derivation_names("weight_variance"))
        17
        >>> [name for name in derivation_names() if name.endswith("reshuffled")]
        ['weight_variance reshuffled', 'velocity_variance reshuffled', 'correlation_time reshuffled']
    """
    for subject in subjects:
        if subject not in SUBJECTS:
            raise ValueError(f"subject={subject!r} must be one of {', '.join(SUBJECTS)}")
    return [name for subject in subjects or SUBJECTS for name in SUBJECTS[subject]()]


def derive(name: str) -> Derivation:
    """A derivation by its name; takes up to a few seconds.

    Args:
        name: one of ``derivation_names()``.

    Returns:
        The derivation.

    Raises:
        ValueError: for another name.

    Example:
        >>> derive("linear_response").result  # dE[T_r] / dr at r = 0
        m_1*taubar - m_2/2
    """
    for catalogue in SUBJECTS.values():
        known = catalogue()
        if name in known:
            return known[name]()
    raise ValueError(f"name={name!r} is not a derivation; derivation_names() lists them")
