"""The report of an evaluation: one HTML file that opens in a browser without network access.

Each section is defined in a file in this folder by a function that turns the results into `Section`
objects; `build` lists these functions in the order of the page. All tasks are shown in the same
way, by their `TaskResult`.
"""
