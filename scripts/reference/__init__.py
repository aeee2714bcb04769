"""Generate the reference pages in docs/reference/ from the code, one module per kind of page.

`python -m scripts.reference` writes the pages; a test checks that they are up to date.
"""

from __future__ import annotations

from scripts.reference.artifacts import artifacts_page
from scripts.reference.command_line import command_line_page, exit_codes_page
from scripts.reference.configuration import configuration_page
from scripts.reference.events import events_page
from scripts.reference.pages import ROOT

REFERENCE = ROOT / "docs" / "reference"
PAGES = {
    "configuration.md": configuration_page,
    "command_line.md": command_line_page,
    "artifacts.md": artifacts_page,
    "events.md": events_page,
    "exit_codes.md": exit_codes_page,
}
