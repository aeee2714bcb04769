"""The launchers, and the generator of the reference pages in docs/reference/."""
