"""The report of a judgement: one HTML file that opens from disk, without a network.

A section is one file in this folder, whose function turns what was judged into `Section`s; `build`
lists them in the order of the page. Tasks are shown through `TaskResult`, without knowing them.
"""
