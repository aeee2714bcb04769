"""The uses of `evaluate.py`, distinguished by the options that are given."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Use:
    """One use of a script: what runs, and the options that it needs and takes.

    Attributes:
        purpose: What it does, as an infinitive without `to`.
        run: The function that does it.
        marks: The options each of which selects this use.
        needs: The options that are needed.
        takes: Further options that may be given.
    """

    purpose: str
    run: Callable[[argparse.Namespace], None]
    marks: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


def choose_use(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, uses: Sequence[Use]
) -> Use:
    """Choose the first use that a given option selects, or else the last one.

    Exits with a message if a needed option is missing, or a given one does not belong to the use.
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
