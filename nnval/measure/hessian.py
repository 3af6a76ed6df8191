"""Eigenpairs of the Hessian of a network's mean loss: the largest, the smallest, or those near a value.

Block Lanczos (nnval.measure.lanczos) on exact Hessian-vector products. What comes out is checked by products of its
own: eigenvalues are those of the Hessian within the space found, residuals |H u - lambda u| are computed, not estimated
from the recurrence. An eigenvalue lies within its residual of the true one, and mostly much closer, residual^2 / gap.

Eigenvalues near a value are the largest ones of a polynomial of the Hessian that has its maximum there
(nnval.measure.spectrum_filter). Each step then takes as many products as the polynomial's degree, some tens to
thousands: the denser the spectrum there, the higher. Where only hundreds of eigenvalues lie beyond the value, it is
cheaper to ask for all of them. In networks of a few thousand weights all eigenvalues are computed instead.

ReLU networks have many zero eigenvalues, and equal ones wherever hidden units are interchangeable; eigenvectors of a
multiple eigenvalue are any orthonormal basis of their space.

Reference: [wu2000] thick restart; [pearlmutter1994] exact Hessian-vector products.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nnval.measure.full_loss import FullLoss
from nnval.measure.krylov_files import KrylovFiles
from nnval.measure.lanczos import Ritz, Solver, rotate
from nnval.measure.spectrum_filter import SpectrumFilter
from sim.ensemble import Progress
from sim.random_streams import kernel_key
from theory.absorbing import Floats, whole_number

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Default tolerances: residuals in units of the largest modulus of an eigenvalue."""

BLOCK = 8
"""Vectors in a block of Lanczos: larger ones take less time per product, but more products."""

MEMORY = 4 * 2**30
"""Bytes that the basis may take by default."""

WHOLE = 4096
"""Up to so many weights, eigenvalues near a value are chosen from all of them: d products, and no polynomial."""

_SPECTRUM_BLOCKS = 20


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenpairs of a Hessian.

    Attributes:
        curvatures: eigenvalues of the Hessian of the mean loss, without weight decay, falling; shape (k,), float64.
        directions: eigenvectors, orthonormal rows (k, d) with their largest component > 0, on the loss's device.
        residuals: |H u - lambda u|, from products of their own, shape (k,).
        converged: whether the residual is below the tolerance, shape (k,).
        confirmed: whether a second, random start found no other eigenvalue that belongs to those asked for. If not,
            these may be eigenpairs, but not all of the wanted ones.
        products: of the Hessian with a vector.
        tolerance: in units of ``norm``.
        norm: the largest modulus of an eigenvalue that was seen.
        irreproducibility: how far two evaluations of loss and gradient differ, relative to them.

    Example:
        >>> squares = lambda outputs, labels: ((outputs - labels) ** 2).sum() / 2
        >>> inputs = torch.diag(torch.tensor([2.0, 4.0]))
        >>> loss = FullLoss(torch.nn.Linear(2, 1, bias=False), inputs, torch.zeros(2, 1), loss=squares)
        >>> pairs = eigenpairs(loss, loss.weights, 1, rng=np.random.default_rng(0))
        >>> bool(pairs.converged.all()), pairs.directions.abs().round(decimals=6).tolist()
        (True, [[0.0, 1.0]])
    """

    curvatures: Floats
    directions: torch.Tensor
    residuals: Floats
    converged: npt.NDArray[np.bool_]
    confirmed: bool
    products: int
    tolerance: float
    norm: float
    irreproducibility: float


def basis_bytes(loss: FullLoss, count: int, *, block: int = BLOCK, basis: int | None = None) -> int:
    """Memory that ``eigenpairs`` takes for vectors.

    Args:
        loss: its size and type matter.
        count: eigenpairs wanted.
        block: vectors in a block.
        basis: vectors in the basis; None for the default.

    Returns:
        Bytes on the loss's device: the basis or, where that is more, results and their images; and six blocks.
    """
    capacity = _capacity(loss.size, count, block) if basis is None else basis
    return (max(capacity + count, 3 * count) + 6 * block) * loss.size * torch.finfo(loss.dtype).bits // 8


def _capacity(size: int, count: int, block: int) -> int:
    return min(size, count + max(count // 2, 6 * block))


def eigenpairs(
    loss: FullLoss,
    weights: torch.Tensor,
    count: int,
    *,
    rng: np.random.Generator,
    smallest: bool = False,
    near: float | None = None,
    tolerance: float | None = None,
    block: int = BLOCK,
    basis: int | None = None,
    memory: float = MEMORY,
    cycles: int = 40,
    filter_degree: int | None = None,
    progress: Progress | None = None,
    state: Path | None = None,
) -> Eigenpairs:
    """Eigenpairs of the Hessian at given weights.

    Args:
        loss: of which the Hessian is taken.
        weights: shape (d,).
        count: eigenpairs wanted, 1 <= count <= d.
        rng: source of the random start; two draws are taken.
        smallest: the smallest (most negative) eigenvalues instead of the largest.
        near: those closest to this value.
        tolerance: on residuals, in units of the largest modulus of an eigenvalue; see ``TOLERANCES``.
        block: vectors that are multiplied at once.
        basis: vectors kept in memory; by default count + max(count / 2, 6 block), or all d for ``near`` if d <= 4096.
        memory: bytes that they may take.
        cycles: how often the basis is filled, at most.
        filter_degree: of the polynomial for ``near``; by default from an estimate of the density of eigenvalues there.
        progress: called with (vectors in the basis, its capacity, text), first with the memory.
        state: directory where the basis is saved after each block; the same call goes on from there, to the same bits
            where products have the same bits, and returns what is there when it is finished.

    Returns:
        The eigenpairs; those that did not converge in the cycles allowed say so.

    Raises:
        ValueError: for arguments out of range, too little memory, or a loss that is not deterministic or not finite.
        RunDirectoryError: if ``state`` holds something else.
        StorageError: if it cannot be written.

    Example:
        >>> squares = lambda outputs, labels: ((outputs - labels) ** 2).sum() / 2
        >>> inputs = torch.diag(torch.tensor([2.0, 4.0]))
        >>> loss = FullLoss(torch.nn.Linear(2, 1, bias=False), inputs, torch.zeros(2, 1), loss=squares)
        >>> eigenpairs(loss, loss.weights, 2, rng=np.random.default_rng(0)).curvatures.round(6).tolist()
        [8.0, 2.0]
    """
    plan = _planned(loss, count, smallest, near, tolerance, block, basis, memory, cycles)
    key = kernel_key(rng).tolist()
    irreproducibility = loss.irreproducibility(weights)
    files = None
    if state is not None:
        options = {"count": count, "smallest": smallest, "near": near, "filter_degree": filter_degree}
        options |= {name: plan[name] for name in ("tolerance", "block", "capacity", "cycles")}
        files = KrylovFiles(Path(state), {"loss": loss.digest(weights), **options, "key": key})
        if (saved := files.result()) is not None:
            return _of_payload(saved, loss.device)
    if progress is not None:
        size = basis_bytes(loss, count, block=plan["block"], basis=plan["capacity"]) / 2**20
        progress(0, plan["capacity"], f"{plan['capacity']} vectors of {loss.size:,} numbers: {size:,.0f} MiB")

    def product(vectors: torch.Tensor) -> torch.Tensor:
        return loss.product(weights, vectors)

    solver = Solver(
        apply=(lambda vectors: -product(vectors)) if smallest else product,
        size=loss.size,
        count=count,
        key=tuple(key),
        like=torch.zeros(1, dtype=loss.dtype, device=loss.device),
        progress=progress,
        **plan,
    )
    ritz, products, norm = _solved(solver, near, filter_degree, files)
    result = _checked(ritz.vectors, product, count, near, products + len(ritz.vectors))
    norm = max(norm, float(np.abs(result["curvatures"]).max()))
    found = Eigenpairs(
        **result,
        # Of a polynomial's eigenvectors some may be missing although those found are good: that is for ``confirmed``.
        converged=result["residuals"] <= plan["tolerance"] * norm,
        confirmed=ritz.confirmed,
        tolerance=plan["tolerance"],
        norm=norm,
        irreproducibility=irreproducibility,
    )
    if files is not None:
        files.save_result(_payload(found))
    return found


def _planned(
    loss: FullLoss,
    count: int,
    smallest: bool,
    near: float | None,
    tolerance: float | None,
    block: int,
    basis: int | None,
    memory: float,
    cycles: int,
) -> dict[str, Any]:
    count, block = whole_number("count", count, 1), whole_number("block", block, 1)
    if count > loss.size:
        raise ValueError(f"count={count} must be at most {loss.size}, the number of weights")
    if smallest and near is not None:
        raise ValueError(f"smallest=True and near={near}: give one of them")
    if near is not None and not math.isfinite(near):
        raise ValueError(f"near={near} must be finite")
    tolerance = TOLERANCES[loss.dtype] if tolerance is None else float(tolerance)
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance={tolerance} must satisfy 0 < tolerance < 1")
    block = min(block, loss.size)
    sought = count if near is None else min(count + block, loss.size)
    capacity = _capacity(loss.size, sought, block) if basis is None else whole_number("basis", basis, 1)
    if near is not None and basis is None and loss.size <= WHOLE:
        capacity = loss.size
    least = min(loss.size, sought + 2 * block)
    if not least <= capacity <= loss.size:
        raise ValueError(
            f"basis={capacity} must lie between {least} (eigenpairs sought and two blocks) and the {loss.size} weights"
        )
    needed = basis_bytes(loss, count, block=block, basis=capacity)
    if needed > memory:
        raise ValueError(
            f"{capacity} vectors of {loss.size:,} numbers need {needed / 2**30:.3g} GiB, above memory={memory:.3g} "
            "bytes: ask for fewer eigenpairs, take a smaller basis or dtype=torch.float32, or allow more memory"
        )
    return {
        "block": block,
        "capacity": capacity,
        "tolerance": tolerance,
        "cycles": whole_number("cycles", cycles, 1),
    }


def _solved(
    solver: Solver, near: float | None, degree: int | None, files: KrylovFiles | None
) -> tuple[Ritz, int, float]:
    """Eigenvectors, products with the Hessian, and its norm."""
    if near is None:
        ritz = solver.solve(files)
        return ritz, ritz.applications, ritz.scale
    if solver.capacity == solver.size:
        ritz = dataclasses.replace(solver, count=solver.size).solve(files)
        return ritz, ritz.applications, ritz.scale
    sought = solver.count + solver.block
    few = dataclasses.replace(solver, capacity=min(_SPECTRUM_BLOCKS * solver.block, solver.size), progress=None)
    values, weights, taken = few.spectrum()
    polynomial = SpectrumFilter.around(near, solver.apply, values, weights, sought / solver.size, degree)
    filtered = dataclasses.replace(solver, apply=polynomial, count=sought, products_each=polynomial.degree)
    ritz = filtered.solve(files)
    return ritz, taken + polynomial.degree * ritz.applications, float(np.abs(values).max())


def _checked(
    vectors: torch.Tensor,
    product: Callable[[torch.Tensor], torch.Tensor],
    count: int,
    near: float | None,
    products: int,
) -> dict[str, Any]:
    """Eigenvalues of the Hessian within the space of the vectors, and true residuals."""
    images = product(vectors)
    wide = torch.float32 if vectors.device.type == "mps" else torch.float64
    inside = sum(u.to(wide) @ v.to(wide).T for u, v in zip(vectors.split(4096, 1), images.split(4096, 1), strict=True))
    assert isinstance(inside, torch.Tensor)
    projected = inside.cpu().double().numpy()
    curvatures, rotation = np.linalg.eigh((projected + projected.T) / 2)
    if near is None:
        chosen = np.arange(len(curvatures))[::-1]
    else:
        chosen = np.sort(np.argsort(np.abs(curvatures - near), kind="stable")[:count])[::-1]
    curvatures, rotation = curvatures[chosen], rotation[:, chosen]
    rotate(vectors, rotation)
    rotate(images, rotation)
    vectors, images = vectors[: len(chosen)].clone(), images[: len(chosen)]
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    scale = torch.from_numpy(curvatures).to(vectors)[:, None]
    residuals = torch.linalg.vector_norm(images - scale * vectors, dim=1)
    return {
        "curvatures": curvatures,
        "directions": vectors * torch.where(largest < 0, -1.0, 1.0).to(vectors),
        "residuals": residuals.cpu().double().numpy(),
        "products": products,
    }


def _payload(found: Eigenpairs) -> dict[str, Any]:
    values = dict(vars(found))
    for name in ("curvatures", "residuals", "converged"):
        values[name] = torch.from_numpy(np.ascontiguousarray(values[name]))
    values["directions"] = found.directions.cpu()
    return values


def _of_payload(values: dict[str, Any], device: torch.device) -> Eigenpairs:
    arrays = {name: values[name].numpy() for name in ("curvatures", "residuals", "converged")}
    return Eigenpairs(**{**values, **arrays, "directions": values["directions"].to(device)})
