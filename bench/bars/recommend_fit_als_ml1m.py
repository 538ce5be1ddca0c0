"""What iALS costs to fit on ML-1M."""

from . import _fit

NAME = "recommend-fit-als-ml1m"
WHAT = "iALS, 64 factors, 15 iterations, on ML-1M: processor time to fit beside implicit"
BAR = "CPU seconds <= 1.0 x implicit, quality >= 0.99 x"


def measure(workbench):
    return _fit.als(workbench, _fit.ml1m(workbench))
