"""Shared by the rows about forecasts: the program that makes them."""

from harness.figures import Figure


def ask(workbench, question, minutes=90):
    """What `bench-forecast` tells about the real data."""
    command = [workbench.binary("bench-forecast"), question, "--data", workbench.data("power").parent]
    return workbench.run_json(command + (["--quick"] if workbench.quick else []), minutes=minutes)


def test_of(outcome):
    """A test of Diebold and Mariano in words."""
    if outcome is None:
        return "no test"
    return f"DM {outcome['statistic']:.2f}, p {outcome['p_value']:.3g}"


def quantiles_of(outcome, whose, naive):
    """The loss of quantiles beside naive ones, and how often each held, where there were any."""
    if not outcome:
        return [], []
    loss = Figure(
        f"mean pinball loss of the quantiles{whose}", outcome["pinball"], peer=outcome["naive_pinball"], peer_name=naive
    )
    covered = ", ".join(f"{level['covered']:.1%} of {level['level']:.0%}" for level in outcome["levels"])
    return [loss], [f"at or below each quantile were{whose}: {covered}"]
