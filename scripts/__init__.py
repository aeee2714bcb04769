"""Shell scripts that launch runs, and the generator of the reference pages in docs/reference/."""
