"""Choose a use of `evaluate.py`, such as evaluating or predicting, by the given options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Use:
    """A use of a script: the function to run, and the options that the use requires or allows.

    Attributes:
        purpose: What the use does, as an infinitive without `to`.
        run: The function to run.
        marks: Options of which any selects this use.
        needs: Required options.
        takes: Further allowed options.
    """

    purpose: str
    run: Callable[[argparse.Namespace], None]
    marks: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


def choose_use(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, uses: Sequence[Use]
) -> Use:
    """Choose the first use that a given option selects, or the last use if none is selected.

    Exits with a message if a required option is missing or a given option is not allowed.
    """
    options = {name for use in uses for name in (*use.marks, *use.needs, *use.takes)}
    given = {name for name in options if getattr(arguments, name) not in (None, False, [])}
    use = next((use for use in uses if given.intersection(use.marks)), uses[-1])
    missing = [name for name in use.needs if name not in given]
    known = dict.fromkeys((*use.needs, *use.marks, *use.takes))
    foreign = sorted(given.difference(known))
    if missing:
        parser.error(f"to {use.purpose}, give {_name(use.needs)}; missing: {_name(missing)}")
    if foreign:
        accepted = _name((*known, "set"))
        parser.error(f"to {use.purpose}, give only {accepted}, without {_name(foreign)}")
    return use


def _name(options: Sequence[str]) -> str:
    *first, last = (f"--{name.replace('_', '-')}" for name in options)
    return f"{', '.join(first)} and {last}" if first else last
