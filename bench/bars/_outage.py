"""The sizes that the rows with an outage share."""

BAR = (
    "reads >= 99.9 % good, no request over its limit, no acknowledged write lost, recovery < 5 s after the return"
)


def rate(workbench):
    """Requests a second; a trial may run unoptimised programs."""
    return workbench.pick(500, 60)


def seconds(workbench):
    """Before, away, after."""
    return workbench.pick((10, 20, 15), (3, 8, 8))
