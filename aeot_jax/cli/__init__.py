"""The command line: aeot-jax fit | sample | evaluate | report | compare | data.

Each command is a module with a dataclass, from which tyro makes the options and their help, and a
function that runs it. What a user may do wrong ends in one sentence and exit code 2; an
interruption in 130; a run that did not reach its tolerance in 0 and a warning.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from rich.console import Console

import aeot_jax as aeot
from aeot_jax import files
from aeot_jax.cli import compare, data, evaluate, fit, interrupts, report, sample

_FORESEEN = (ValueError, OSError, ImportError, FloatingPointError, aeot.SampleError)
"""What a user's input, disk or network may cause (missing files and connections are OSErrors)."""

_BAD_INPUT = 2

_Command = (
    Annotated[fit.Fit, tyro.conf.subcommand("fit")]
    | Annotated[sample.Sample, tyro.conf.subcommand("sample")]
    | Annotated[evaluate.Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[report.Report, tyro.conf.subcommand("report")]
    | Annotated[compare.Compare, tyro.conf.subcommand("compare")]
    | Annotated[data.Data, tyro.conf.subcommand("data")]
)

_RUN = {
    fit.Fit: fit.run,
    sample.Sample: sample.run,
    evaluate.Evaluate: evaluate.run,
    report.Report: report.run,
    compare.Compare: compare.run,
    data.Data: data.run,
}


Options = fit.Fit | sample.Sample | evaluate.Evaluate | report.Report | compare.Compare | data.Data


def parse(arguments: Sequence[str]) -> Options:
    """Read a command and its options.

    Raises:
      SystemExit: for ``--help``, and with code 2 for options that do not parse.
      ValueError: if a value of the configuration is out of its range.
    """
    return tyro.cli(
        _Command,
        prog="aeot-jax",
        description=str(aeot.__doc__).partition("\n")[0],
        args=arguments,
        # --resume but no --no-resume; an unset optimizer is not a sub-command of its own
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
      argv: the arguments without the program's name; None takes the process's own.

    Returns:
      The exit code: 0 done, 2 bad input, 130 interrupted.

    Raises:
      SystemExit: for ``--help``, and with code 2 for options that do not parse.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    out, err = Console(), Console(stderr=True)
    debug = "--debug" in arguments
    try:
        with interrupts.stoppable():
            options = parse(arguments)
            _RUN[type(options)](options, out, err)
    except KeyboardInterrupt as error:
        _say(err, interrupts.sentence(error, arguments))
        return interrupts.CODE
    except _FORESEEN as error:
        if debug:
            raise
        _say(err, f"Error: {_sentence(error)}")
        return _BAD_INPUT
    return 0


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in files.FULL:
        return (
            f"no space is left on the disk ({error.filename or 'while writing'}); files from "
            "before are whole. Free some space and run the command again, a fit with --resume."
        )
    return " ".join(str(error).split()) or type(error).__name__


def _say(err: Console, text: str) -> None:
    err.print(text, soft_wrap=True, markup=False, highlight=False)
