"""What item neighbours cost to fit on ML-1M, beside `implicit`: cosine, TF-IDF and BM25."""

from . import _fit

NAME = "recommend-fit-neighbours-ml1m"
WHAT = "item-kNN, 100 neighbours in three weightings, on ML-1M: processor time to fit beside implicit"
BAR = "CPU seconds <= 1.0 x implicit, quality >= 0.99 x"


def measure(workbench):
    return _fit.neighbours(workbench, _fit.ml1m(workbench))
