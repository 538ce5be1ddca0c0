"""Shared by the rows about forecasts: the program that makes them."""


def ask(workbench, question, minutes=90):
    """What `bench-forecast` tells about the real data."""
    command = [workbench.binary("bench-forecast"), question, "--data", workbench.data("power").parent]
    return workbench.run_json(command + (["--quick"] if workbench.quick else []), minutes=minutes)


def test_of(outcome):
    """A test of Diebold and Mariano in words."""
    if outcome is None:
        return "no test"
    return f"DM {outcome['statistic']:.2f}, p {outcome['p_value']:.3g}"
