"""The quasi-stationary law of a finite chain: what runs look like that have survived for long.

Reference: [darroch1965]
"""

import math
from dataclasses import dataclass

import numpy as np

from theory.absorbing import Floats
from theory.markov_chain import Chain, survival


@dataclass(frozen=True, eq=False)
class QuasiStationary:
    """What long survivors look like; their first-passage time is geometric.

    Attributes:
        distribution: phi, the law of the state given survival, shape (n,); phi Q = lambda_1 phi.
        survival_rate: lambda_1, the probability to survive another epoch.
        hazard: 1 - lambda_1 [per epoch].
        relaxation_epochs: -1 / ln(|lambda_2| / lambda_1), over which survivors forget where they started [epochs].
    """

    distribution: Floats
    survival_rate: float
    hazard: float
    relaxation_epochs: float


def quasi_stationary_state(chain: Chain) -> QuasiStationary:
    """The limit law of the survivors' state, from the leading left eigenvector of Q.

    Only states that the chain can reach from its initial law take part.

    Args:
        chain: the chain.

    Returns:
        The quasi-stationary law and its rates.

    Raises:
        ValueError: if no run survives as many epochs as there are states, or if |lambda_2| = lambda_1: survivors then
            remember the start or the parity of the epoch for ever.

    Example:
        >>> chain = Chain([[0.9, 0.1], [0.0, 0.5]], [0.0, 1.0])  # state 0 is not reached from state 1
        >>> law = quasi_stationary_state(chain)
        >>> law.distribution.tolist(), law.hazard, law.relaxation_epochs
        ([0.0, 1.0], 0.5, 0.0)

    Reference: [darroch1965]
    """
    if survival(chain, chain.states)[-1] == 0:
        raise ValueError(f"every run meets the target within {chain.states} epochs: there are no long survivors")
    reached = chain.initial > 0
    for _ in range(chain.states):
        wider = reached | (chain.transient[reached] > 0).any(axis=0)
        if (wider == reached).all():
            break
        reached = wider
    eigenvalues, vectors = np.linalg.eig(chain.transient[np.ix_(reached, reached)].T)
    order = np.argsort(-np.abs(eigenvalues))
    survival_rate = float(np.abs(eigenvalues[order[0]]))
    ratio = float(np.abs(eigenvalues[order[1]]) / survival_rate) if len(order) > 1 else 0.0
    if ratio > 1 - 1e-9:
        raise ValueError(
            f"two modes survive at the same rate {survival_rate:.12g} per epoch (equal traps, or a period): survivors "
            "have no single quasi-stationary law"
        )
    distribution = np.zeros(chain.states)
    distribution[reached] = np.abs(vectors[:, order[0]])
    distribution /= distribution.sum()
    relaxation = -1 / math.log(ratio) if ratio > 0 else 0.0
    return QuasiStationary(distribution, survival_rate, float(distribution @ chain.exits), relaxation)
