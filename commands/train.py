"""``jostle train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from commands.shared import emit_json, hint, output_options, parse_perturbation, progress_bar


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory; resumed if it exists.")
@click.option("--data", default="digits", show_default=True, help="Data set; digits is embedded.")
@click.option("--model", default="mlp", show_default=True, help="mlp or lenet.")
@click.option("--hidden", default="32,32", show_default=True, help="Widths of the hidden layers of mlp.")
@click.option("--members", default=64, show_default=True, help="Networks in the ensemble.")
@click.option("--epochs", default=150, show_default=True, help="Horizon.")
@click.option("--lr", "learning_rate", default=0.1, show_default=True, help="Learning rate of SGD.")
@click.option("--batch-size", default=20, show_default=True)
@click.option("--momentum", default=0.0, show_default=True)
@click.option("--weight-decay", default=0.0, show_default=True)
@click.option("--schedule", default="constant", show_default=True, help="constant or cosine.")
@click.option("--train-size", default=500, show_default=True)
@click.option("--validation-size", default=400, show_default=True, help="Decides when the target is reached.")
@click.option("--label-noise", default=0.0, show_default=True, help="Fraction of wrong training labels.")
@click.option("--perturbation", help="NAME or NAME:option=value,... such as shrink_perturb:shrink=0.4,noise=0.1.")
@click.option("--interval", "-P", type=int, help="The perturbation acts every P epochs.")
@click.option("--target", type=float, help="Validation accuracy at which a network stops; default: none does.")
@click.option("--execution", default="auto", show_default=True, help="auto, stacked or loop.")
@click.option("--stack-size", type=int, help="Networks trained together; default: as many as pays.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Of torch.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@output_options
def train(
    out: Path, hidden: str, perturbation: str | None, threads: int, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Train an ensemble; resumable, and a finished run is only read.

    \b
    jostle train --members 64 --epochs 100 --lr 0.2 --out runs/plain
    jostle train --perturbation shrink_perturb:shrink=0.7,noise=0.3 -P 10 --target 0.94 --out runs/perturbed
    """
    try:
        widths = tuple(int(width) for width in hidden.split(",") if width.strip())
    except ValueError:
        raise ValueError(f"hidden={hidden!r} must be whole numbers separated by commas, such as 32,32") from None
    acts = None if perturbation is None else parse_perturbation(perturbation)
    from nnval.engine.config import TrainingConfig
    from nnval.engine.ensemble import train_ensemble

    config = TrainingConfig(hidden=widths, perturbation=acts, **options)
    finished = (out / "done.json").exists()
    with progress_bar(quiet) as progress:
        result = train_ensemble(config, out, progress=progress, threads=threads)
    counts = {status: int((result.status == status).sum()) for status in ("reached", "horizon", "diverged")}
    if finished:
        hint(f"{out} was finished already; nothing was trained", quiet)
    if as_json:
        summary = {"directory": str(out), "members": len(result.members), **counts}
        emit_json("train", config.to_dict(), config.seed, summary)
        return
    finite = result.test_accuracy[result.test_accuracy == result.test_accuracy]
    click.echo(f"{len(result.members)} networks: " + ", ".join(f"{n} {s}" for s, n in counts.items() if n))
    if len(finite):
        click.echo(f"test accuracy at the end: mean {finite.mean():.4f}, from {finite.min():.4f} to {finite.max():.4f}")
    click.echo(f"curves: {out / 'curves.csv'}; seed {config.seed}")
