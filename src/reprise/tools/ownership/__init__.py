"""Whose file is whose, and the two commands that move the line: adopt a clone, update its engine.

Read `halves` (which paths belong to the engine) first, then `adopting` and `updating`; `work_tree` reads and writes,
`record` remembers which engine a project has, `pyproject` merges the one file that both halves share.
"""
