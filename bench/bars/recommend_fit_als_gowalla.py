"""What iALS costs to fit on Gowalla."""

from . import _fit

NAME = "recommend-fit-als-gowalla"
WHAT = "iALS, 64 factors, 15 iterations, on Gowalla: processor time to fit beside implicit"
BAR = "CPU seconds <= 1.0 x implicit, quality >= 0.99 x"


def measure(workbench):
    return _fit.als(workbench, _fit.gowalla(workbench))
