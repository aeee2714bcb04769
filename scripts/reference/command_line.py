"""The reference pages of the command line: the scripts' options and exit codes."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator

from common.command_line import EXIT_CODES
from scripts.reference.pages import ROOT, SCRIPTS, code, page, table

ACCELERATE = (
    "`accelerate launch` itself exits with 0 after success, and with another number in all other"
    " cases. The last line of `log.log` then says how the run ended."
)


def command_line_page() -> str:
    """Return the page of the scripts' options, with the docstring of each script."""
    parts = []
    for script in SCRIPTS:
        parser, story = load_script(script)
        options = table(("option", "meaning"), _options(parser))
        parts += [f"## {script}.py", *story.split("\n\n")[:2], options]
    return page("Command line", *parts)


def exit_codes_page() -> str:
    """Return the page of exit codes."""
    rows = [(code(str(number)), meaning) for number, meaning in EXIT_CODES.items()]
    return page("Exit codes", table(("exit code", "meaning"), rows), ACCELERATE)


def load_script(script: str) -> tuple[argparse.ArgumentParser, str]:
    """Import a script by its path, because the name `evaluate` could mean the library."""
    spec = importlib.util.spec_from_file_location(f"relic_{script}", ROOT / f"{script}.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no {script}.py in {ROOT}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build_parser(), str(module.__doc__)


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = action.metavar or ("…" if action.choices else "")
        shown = f"{action.option_strings[-1]} {value}".strip()
        choices = [code(str(choice)) for choice in action.choices or ()]
        meaning = f"{action.help}: {', '.join(choices)}" if choices else str(action.help)
        yield code(shown), meaning
