"""What the names of real instruments say."""

from harness.figures import Figure, Measured

from . import _market

NAME = "stream-instruments"
WHAT = "the 14 names of the operators' notes: commodity and region by the built-in rules"
BAR = "at least 13 right, none wrong, the rest unknown with a reason"


def measure(workbench):
    told = _market.ask(workbench, "instruments")
    figures = [
        Figure("names whose commodity and region are right", told["right"], at_least=13),
        Figure("labels that are wrong", told["wrong_labels"], at_most=0),
        Figure("names", told["names"], at_least=14),
    ]
    return Measured(figures, [f"unknown: {line}" for line in told["unknown"]])
