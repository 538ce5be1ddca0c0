"""Every day of the Treasury's par yields to a curve and back."""

from harness.figures import Figure, Measured

from . import _market

NAME = "stream-curves"
WHAT = "par -> zero -> par on the Treasury history (1990-2022), in every interpolation"
BAR = "round trip < 0.01 bp on every day, no negative forward where none is implied (not asked of straight lines)"

# Straight lines between zero rates do make them; that is why they are told, and why others are the default.
UNBARRED = "linear"


def measure(workbench):
    told = _market.ask(workbench, "curves")
    figures, notes = [], [f"{told['days']:,} days; 0.0 in the file is a term that was not issued"]
    # The default first, as the headline.
    for name in sorted(told["methods"], key=lambda name: name != "monotone_convex"):
        of = told["methods"][name]
        figures += [
            Figure(f"round trip, {name}", of["round_trip_basis_points"], "bp", at_most=0.01),
            Figure(f"days without a curve, {name}", of["failed"], at_most=0),
            Figure(
                f"days with negative forwards that the quotes do not imply, {name}",
                of["days_with_interpolated_negative_forwards"],
                at_most=None if name == UNBARRED else 0,
            ),
        ]
        implied = of["days_with_implied_negative_forwards"]
        microseconds = of["cpu_seconds"] / told["days"] * 1e6
        notes.append(f"{name}: {microseconds:.0f} us of CPU a day; the quotes imply negative forwards on {implied} days")
    return Measured(figures, notes)
