"""Strong generalisation on MovieLens 100K."""

from . import _liang

NAME = "recommend-liang-100k"
WHAT = "ML-100K, Liang protocol: EASE and iALS beside numpy and implicit, the hybrid beside its parts"
BAR = "each >= 0.99 x its reference on the same split; the hybrid above each part"


def measure(workbench):
    return _liang.measure(workbench, workbench.data("ml-100k"))
