"""Shared by the rows about the pure parts of `market`: the program that runs them."""


def ask(workbench, question, *options):
    """What `bench-market` tells about the real data."""
    command = [workbench.binary("bench-market"), question, "--data", workbench.data("ticks").parent, *options]
    return workbench.run_json(command + (["--quick"] if workbench.quick else []), minutes=30)
