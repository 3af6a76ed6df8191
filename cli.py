"""The command line of jostle: its groups, and how errors become exit codes. The commands are in ``commands``.

Exit codes: 0 done or agreed; 1 failed; 2 usage; 3 theory and measurement disagree; 4 stopped early, resumable.
Everything heavy is imported inside the command that needs it, so that ``jostle --help`` is there at once.
"""

from typing import Any

import click

from commands.activation_temperature import predict_activation_temperature, simulate_activation_temperature
from commands.adaptive_noise import predict_adaptive_noise, simulate_adaptive_noise
from commands.effective_temperature import predict_effective_temperature, simulate_effective_temperature
from commands.figures import draw_figures
from commands.generate import generate
from commands.perturbation import predict_perturbation, simulate_perturbation
from commands.resetting import predict_resetting, simulate_resetting
from commands.shared import DISAGREES, FAILED, STOPPED, USAGE, fail, failure_in_words
from commands.train import train
from commands.validate import report, validate_perturbation, validate_resetting
from commands.validate_activation_temperature import validate_activation_temperature
from commands.validate_adaptive_noise import validate_adaptive_noise
from commands.validate_all import validate_all
from commands.validate_effective_temperature import validate_effective_temperature
from commands.validate_weight_variance import validate_weight_variance
from commands.validate_widening_valley import validate_widening_valley
from commands.weight_variance import predict_weight_variance, simulate_weight_variance
from commands.widening_valley import predict_widening_valley, simulate_widening_valley

__all__ = ["DISAGREES", "FAILED", "STOPPED", "USAGE", "main"]


AGAIN = "; run the same command again to go on"
RESUMED = {"train": AGAIN, "validate": AGAIN}
"""After Ctrl-C."""

SMALLER = {"simulate": "take fewer --runs", "predict": "ask for less: fewer batches, steps, lags or curvatures"}
SMALLER_NETWORKS = "take fewer or smaller networks, or a shorter horizon"


class _Commands(click.Group):
    """A group whose commands turn the library's errors into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            fail(str(error), USAGE)
        except ModuleNotFoundError as error:
            fail(failure_in_words(error), FAILED)
        except KeyboardInterrupt:
            fail("stopped" + RESUMED.get(ctx.invoked_subcommand or "", ""), STOPPED)
        except RuntimeError as error:
            if "allocate" in str(error):  # torch has no class of its own for this
                fail(f"out of memory: {error}", FAILED)
            if type(error).__name__ != "Interrupted":  # its module imports torch's neighbours: known by name only
                raise
            fail(str(error), STOPPED)
        except MemoryError:
            fail(f"out of memory: {SMALLER.get(ctx.invoked_subcommand or '', SMALLER_NETWORKS)}", FAILED)
        except BrokenPipeError:
            raise  # click ends quietly when the reader of a pipe has gone
        except OSError as error:
            fail(failure_in_words(error), FAILED)


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=_Commands, context_settings=CONTEXT)
@click.version_option(package_name="jostle")
def main() -> None:
    """Training as a first-passage process: predict, measure and perturb the time to a target accuracy.

    \b
    jostle predict resetting --law brownian:distance=1,diffusivity=1
    jostle simulate resetting --law brownian:distance=1,diffusivity=1
    jostle validate perturbation --preset digits-demo --out runs/demo
    jostle train --members 64 --epochs 100 --out runs/plain
    jostle validate all --quick --out runs/proof
    jostle figures --list
    """


@main.group()
def predict() -> None:
    """Closed forms and deterministic numerics.

    \b
    jostle predict resetting --law brownian:distance=1,diffusivity=1
    """


@main.group()
def simulate() -> None:
    """Monte Carlo of the toy models, beside the theory.

    \b
    jostle simulate weight-variance --order reshuffled --curvature 0.2 --curvature 2
    """


@main.group()
def validate() -> None:
    """Real networks beside the theory.

    \b
    jostle validate perturbation --preset digits-quick --out runs/perturbation
    """


for command in (
    predict_resetting,
    predict_perturbation,
    predict_weight_variance,
    predict_effective_temperature,
    predict_widening_valley,
    predict_activation_temperature,
    predict_adaptive_noise,
):
    predict.add_command(command)
for command in (
    simulate_resetting,
    simulate_perturbation,
    simulate_weight_variance,
    simulate_effective_temperature,
    simulate_widening_valley,
    simulate_activation_temperature,
    simulate_adaptive_noise,
):
    simulate.add_command(command)
for command in (
    validate_resetting,
    validate_perturbation,
    validate_weight_variance,
    validate_widening_valley,
    validate_activation_temperature,
    validate_adaptive_noise,
    validate_effective_temperature,
    validate_all,
):
    validate.add_command(command)
for command in (train, generate, report, draw_figures):
    main.add_command(command)
for group in (main, predict, simulate, validate):
    for command in group.commands.values():
        # Not left to the group: a command that another one runs has no group, and click keeps the first names of help.
        command.context_settings = {**CONTEXT, **command.context_settings}


if __name__ == "__main__":
    main()
