"""Strong generalisation on MovieLens 1M."""

from . import _liang

NAME = "recommend-liang-1m"
WHAT = "ML-1M, Liang protocol: EASE and iALS beside numpy and implicit, the hybrid beside its parts"
BAR = "each >= 0.99 x its reference on the same split; the hybrid above each part"


def measure(workbench):
    return _liang.measure(workbench, workbench.data("ml-1m"), [42])
