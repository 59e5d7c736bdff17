"""The command line: one file per command. Each parses options, calls one workflow and prints the result.

Nothing heavy is imported at start-up.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from inspect import cleandoc
from types import FrameType
from typing import Annotated, NoReturn

import typer

from zoo import dist_env
from zoo.errors import TrainingError, ZooError, no_space
from zoo.version import __version__

__all__ = ["app", "command", "main"]

app = typer.Typer(
    name="zoo",
    help="Fine-tune image models: from a folder of images to a trained model that can be deployed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"zoo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    pass


def _register() -> None:
    from zoo.cli.augment import augment
    from zoo.cli.bench import bench
    from zoo.cli.cache import cache
    from zoo.cli.check import check
    from zoo.cli.demo import demo
    from zoo.cli.evaluate import evaluate
    from zoo.cli.export import export
    from zoo.cli.fetch import fetch
    from zoo.cli.finetune import finetune
    from zoo.cli.inspect import inspect_model
    from zoo.cli.list import list_models
    from zoo.cli.lr_find import lr_find
    from zoo.cli.predict import predict
    from zoo.cli.recipes import recipes
    from zoo.cli.recommend import quadrant, recommend
    from zoo.cli.schedule import schedule
    from zoo.cli.tune import tune

    commands: dict[str, Callable[..., None]] = {
        "list": list_models, "inspect": inspect_model, "check": check, "recommend": recommend, "quadrant": quadrant,
        "finetune": finetune, "schedule": schedule, "lr-find": lr_find, "tune": tune, "evaluate": evaluate,
        "predict": predict, "export": export, "fetch": fetch, "augment": augment, "bench": bench, "cache": cache,
        "recipes": recipes, "demo": demo,
    }  # fmt: skip
    for name, function in commands.items():
        paragraphs = cleandoc(function.__doc__ or "").split("\n\n")
        app.command(name, help="\n\n".join(" ".join(p.split()) for p in paragraphs))(function)


_register()


# The reader has closed the pipe, as in `zoo list | head`. This is not an error; a shell reports 128 + SIGPIPE.
_BROKEN_PIPE_CODE = 141


def main() -> NoReturn:
    """Run the program and turn errors into messages and exit codes."""
    signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        code = app(prog_name="zoo", standalone_mode=False)
        sys.stdout.flush()
    except ZooError as e:
        _print_error(e.message, e.hint)
        code = e.exit_code
    except KeyboardInterrupt:
        _print_error("interrupted", "")
        code = 130
    except SystemExit as e:
        if not isinstance(e.__context__, BrokenPipeError):  # Typer exits with 1 for it
            raise
        code = _BROKEN_PIPE_CODE
    except OSError as e:
        if not (isinstance(e, BrokenPipeError) or no_space(e)):
            raise
        # Nothing more can be written to stdout, so the buffered rest must not be flushed there at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _BROKEN_PIPE_CODE
        if no_space(e):
            _print_error("no space left to write the output", "free some disk space")
            code = TrainingError.exit_code
    except Exception as e:  # noqa: BLE001 - raised again unless it comes from the parser
        code = _parser_error(e)
    sys.exit(code if isinstance(code, int) else 0)


def command() -> NoReturn:
    """Entry point of `zoo`. Ends the process without freeing the objects of torch, which takes about 1 s."""
    try:
        main()
    except SystemExit as e:
        # With several processes, threads of gloo and FSDP can abort during this exit, after a finished training.
        if dist_env.world_size() == 1:
            threading._shutdown()  # type: ignore[attr-defined]  # joins the running threads, as the interpreter does
            atexit._run_exitfuncs()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(e.code if isinstance(e.code, int) else 0)


def _parser_error(error: Exception) -> int:
    """Print a parser error of Typer as two lines and return its exit code. Raises every other error again."""
    from typer._click import exceptions

    if isinstance(error, typer.Abort):
        return 130
    if not isinstance(error, exceptions.ClickException):
        raise error
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message)
        return 2
    context = error.ctx if isinstance(error, exceptions.UsageError) else None
    _print_error(
        message[:1].lower() + message[1:].rstrip("."), f"see `{context.command_path if context else 'zoo'} --help`"
    )
    return error.exit_code


def _print_error(message: str, hint: str) -> None:
    sys.stdout.flush()
    rank_prefix = "" if dist_env.is_main_process() else f"rank {dist_env.rank()}: "
    print(f"error: {rank_prefix}{message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
