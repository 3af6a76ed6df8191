"""The largest eigenvalues of a symmetric operator and their eigenvectors: block Lanczos with thick restart.

A Krylov basis is built in blocks, every new block orthogonalised against all of it (three times), and the operator is
projected on it. When the basis is full, it is reduced to the best approximations so far (the Ritz vectors) and grows
again. After all wanted pairs have converged, one more cycle begins with random vectors orthogonal to them: a block
method finds no more copies of a multiple eigenvalue than its block has vectors, and only a fresh start shows whether
one was missed.

Reference: [wu2000] thick restart.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from nnval.measure.krylov_files import KrylovFiles
from theory.absorbing import Floats

Apply = Callable[[torch.Tensor], torch.Tensor]
"""Vectors (n, d) to their images (n, d)."""

SLICE = 2**22
"""Numbers of a basis that are worked on at once when it is rotated in place."""


@dataclass
class Krylov:
    """A basis that grows, and what is known of the operator on it.

    Attributes:
        basis: (capacity, d), of which the first ``rows`` are orthonormal.
        projected: the operator in this basis, (capacity, capacity).
        rows: vectors in the basis.
        following: (b, d), the next block, orthonormal to the basis.
        coupling: (b, b): what the images of the last block have along ``following``.
        cycle: restarts so far.
        applications: of the operator to a vector.
        drawn: blocks of random vectors that were drawn.
        scale: the largest modulus of an approximate eigenvalue.
        confirming: the eigenvalues that this cycle's random start shall confirm; empty in other cycles.
    """

    basis: torch.Tensor
    projected: Floats
    rows: int
    following: torch.Tensor
    coupling: Floats
    cycle: int = 0
    applications: int = 0
    drawn: int = 0
    scale: float = 0.0
    confirming: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def full(self) -> bool:
        """Whether no further block fits in, or none is left."""
        return not len(self.following) or self.rows + len(self.following) > len(self.basis)


@dataclass(frozen=True, eq=False)
class Ritz:
    """Approximate eigenpairs.

    Attributes:
        values: (count,), falling.
        vectors: (count, d), orthonormal rows.
        converged: (count,), whether the estimated residual is below the tolerance.
        confirmed: whether a cycle from a random start found no other eigenvalue among them.
        applications: of the operator to a vector.
        scale: the largest modulus of an approximate eigenvalue that was seen.
    """

    values: Floats
    vectors: torch.Tensor
    converged: npt.NDArray[np.bool_]
    confirmed: bool
    applications: int
    scale: float


@dataclass(frozen=True)
class Solver:
    """What does not change while eigenpairs are sought.

    Attributes:
        apply: the operator.
        size: d.
        count: eigenpairs wanted.
        block: vectors in a block.
        capacity: vectors in the basis.
        tolerance: on residuals, in units of the largest modulus of an eigenvalue.
        cycles: at most so many.
        key: of the random vectors.
        like: a tensor of the device and type of all vectors.
        progress: called after each block with (vectors in the basis, its capacity, text).
        products_each: of the Hessian in an application, for that text.
    """

    apply: Apply
    size: int
    count: int
    block: int
    capacity: int
    tolerance: float
    cycles: int
    key: tuple[int, ...]
    like: torch.Tensor
    progress: Callable[[int, int, str], None] | None = None
    products_each: int = 1

    def solve(self, files: KrylovFiles | None = None) -> Ritz:
        """The eigenpairs, or the best approximations that the cycles allow.

        Args:
            files: where the basis is saved block by block; what is there is gone on with.

        Returns:
            The approximate eigenpairs.

        Raises:
            ValueError: if images are not finite.
        """
        krylov = self._loaded(files) or self._begun()
        while True:
            self._grow(krylov, files)
            values, rotation = np.linalg.eigh(krylov.projected[: krylov.rows, : krylov.rows])
            values, rotation = values[::-1], rotation[:, ::-1]
            krylov.scale = max(krylov.scale, float(np.abs(values).max()))
            last = rotation[krylov.rows - krylov.coupling.shape[1] : krylov.rows, : self.count]
            converged = np.linalg.norm(krylov.coupling @ last, axis=0) <= self.tolerance * krylov.scale
            wanted = values[: self.count]
            complete = krylov.rows == self.size
            as_before = len(krylov.confirming) > 0 and bool(
                (np.abs(wanted - krylov.confirming) <= 2 * self.tolerance * krylov.scale).all()
            )
            confirmed = complete or (as_before and bool(converged.all()))
            if confirmed or krylov.cycle + 1 >= self.cycles:
                rotate(krylov.basis, rotation[:, : self.count])
                vectors = krylov.basis[: self.count].clone()
                return Ritz(wanted.copy(), vectors, converged | complete, confirmed, krylov.applications, krylov.scale)
            self._restart(krylov, values, rotation, afresh=bool(converged.all()))
            if files is not None:
                files.save_cycle(krylov, self.block)

    def spectrum(self) -> tuple[Floats, Floats, int]:
        """What one filling of the basis says about the whole spectrum.

        Returns:
            Approximate eigenvalues, the share of all eigenvalues that each stands for (the weight that the random start
            has along it), and applications of the operator.
        """
        krylov = self._begun()
        self._grow(krylov, None)
        values, rotation = np.linalg.eigh(krylov.projected[: krylov.rows, : krylov.rows])
        block = min(self.block, krylov.rows)
        return values, (rotation[:block] ** 2).sum(axis=0) / block, krylov.applications

    def _begun(self) -> Krylov:
        krylov = Krylov(
            basis=self.like.new_empty((self.capacity, self.size)),
            projected=np.zeros((self.capacity, self.capacity)),
            rows=0,
            following=self.like.new_empty((0, self.size)),
            coupling=np.zeros((0, 0)),
        )
        krylov.following = self._random(krylov)
        return krylov

    def _loaded(self, files: KrylovFiles | None) -> Krylov | None:
        saved = files.load() if files is not None else None
        if saved is None:
            return None
        krylov = self._begun()
        krylov.rows = sum(len(piece["rows"]) for piece in saved.pieces)
        end = 0
        for piece in saved.pieces:
            begin, end = end, end + len(piece["rows"])
            krylov.basis[begin:end] = piece["rows"].to(self.like.device)
            columns = piece["columns"].numpy()
            krylov.projected[:end, begin:end] = columns
            krylov.projected[begin:end, :end] = columns.T
        krylov.following = saved.header["following"].to(self.like.device)
        krylov.coupling = saved.header["coupling"].numpy()
        krylov.confirming = saved.header["confirming"].numpy()
        for name in ("cycle", "applications", "drawn", "scale"):
            setattr(krylov, name, saved.header[name])
        return krylov

    def _grow(self, krylov: Krylov, files: KrylovFiles | None) -> None:
        """Blocks until the basis is full."""
        while not krylov.full:
            block, begin = krylov.following, krylov.rows
            images = self.apply(block)
            if not torch.isfinite(images).all():
                raise ValueError("the Hessian times a vector is not finite: there is no curvature at these weights")
            krylov.applications += len(block)
            krylov.rows = end = begin + len(block)
            krylov.basis[begin:end] = block
            basis = krylov.basis[:end]
            overlaps = basis @ images.T
            columns = overlaps.cpu().double().numpy()
            columns[begin:] = (columns[begin:] + columns[begin:].T) / 2
            krylov.projected[:end, begin:end] = columns
            krylov.projected[begin:end, :end] = columns.T
            largest = float(torch.linalg.vector_norm(images, dim=1).max())
            rest = images - overlaps.T @ basis
            krylov.following, krylov.coupling = self._orthonormal(krylov, rest, largest)
            if files is not None:
                files.save_block(krylov, begin)
            if self.progress is not None:
                products = krylov.applications * self.products_each
                text = f"cycle {krylov.cycle + 1}, {products:,} products of the Hessian with a vector"
                self.progress(end, self.capacity, text)

    def _orthonormal(self, krylov: Krylov, rest: torch.Tensor, largest: float) -> tuple[torch.Tensor, Floats]:
        """An orthonormal block, orthogonal to the basis, that spans ``rest``; random where that has a lower rank."""
        basis = krylov.basis[: krylov.rows]
        count = min(self.block, self.size - krylov.rows)
        if not count:
            return rest[:0], np.zeros((0, len(rest)))
        rest = rest - (rest @ basis.T) @ basis
        q, r = torch.linalg.qr(rest.T)
        left, singular, right = torch.linalg.svd(r)
        rank = min(count, int((singular > 10 * torch.finfo(rest.dtype).eps * largest).sum()))
        vectors, weights = (q @ left).T[:rank], singular[:rank, None] * right[:rank]
        if rank < count:
            vectors = torch.cat([vectors, self._random(krylov)[: count - rank]])
        # A last time, as small remainders are not orthogonal to the basis after they are scaled to length 1.
        vectors = vectors - (vectors @ basis.T) @ basis
        q, r = torch.linalg.qr(vectors.T)
        return q.T.contiguous(), (r[:, :rank] @ weights).cpu().double().numpy()

    def _random(self, krylov: Krylov) -> torch.Tensor:
        """Random vectors, orthonormal to the basis; drawn on the CPU, so that all devices have the same."""
        rng = np.random.default_rng([*self.key, krylov.drawn])
        krylov.drawn += 1
        vectors = torch.from_numpy(rng.standard_normal((self.block, self.size))).to(self.like)
        basis = krylov.basis[: krylov.rows]
        for _ in range(2):
            vectors = vectors - (vectors @ basis.T) @ basis
        return torch.linalg.qr(vectors.T)[0].T[: self.size - krylov.rows].contiguous()

    def _restart(self, krylov: Krylov, values: Floats, rotation: Floats, *, afresh: bool) -> None:
        """Reduce the basis to the best vectors; go on with the next block, or with random vectors."""
        kept = min(self.count + (self.capacity - self.count) // 4, krylov.rows - 1)
        rotate(krylov.basis, rotation[:, :kept])
        krylov.projected[:] = 0
        krylov.projected[:kept, :kept] = np.diag(values[:kept])
        krylov.rows, krylov.coupling = kept, np.zeros((0, 0))
        krylov.cycle += 1
        krylov.confirming = values[: self.count].copy() if afresh else np.empty(0)
        if afresh:
            krylov.following = self._random(krylov)


def rotate(basis: torch.Tensor, rotation: Floats) -> None:
    """Replace the first n rows of a basis by their linear combinations, in place.

    Args:
        basis: (capacity, d).
        rotation: (n, m) with m <= n: new vector j is sum_i rotation[i, j] basis[i].
    """
    rows, kept = rotation.shape
    turn = torch.from_numpy(np.ascontiguousarray(rotation.T)).to(basis)
    width = max(1, SLICE // rows)
    for begin in range(0, basis.shape[1], width):
        part = slice(begin, begin + width)
        basis[:kept, part] = turn @ basis[:rows, part]
