"""What EASE costs to fit on ML-1M: the same equations, so the same model."""

from harness.figures import Figure
from harness.fitting import in_turns, ours, peer

from . import _fit

NAME = "recommend-fit-ease-ml1m"
WHAT = "EASE of the paper (l2 200, dense) on ML-1M: processor time to fit beside numpy"
BAR = "CPU seconds <= 1.0 x numpy+OpenBLAS in the same precision, quality >= 0.99 x"

PAPER = {"l2": 200.0, "l2_exponent": 0.0, "user_exponent": 0.0, "input_exponent": 0.0, "output_exponent": 0.0}


def measure(workbench):
    data = _fit.ml1m(workbench)
    data = _fit.smaller(workbench, data) if workbench.quick else data

    def numpy(method, precision):
        options = ["--l2", "200", "--method", method, "--precision", precision]
        return lambda: peer(workbench, "numpy_ease.py", *options, **data)

    mine, single, double, strongest = in_turns(
        workbench.pick(3, 1),
        lambda: ours(workbench, "ease", PAPER, **data),
        numpy("inv", "single"),
        numpy("inv", "double"),
        numpy("potri", "single"),
    )
    measured = _fit.compared(mine, single, "numpy.linalg.inv, single")
    for name, other in (("numpy.linalg.inv, double", double), ("LAPACK potri, single", strongest)):
        measured.figures.append(Figure("CPU to fit", mine["median"], "s", peer=other["median"], peer_name=name))
    return measured
