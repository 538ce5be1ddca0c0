"""EASE as its paper prints it, in numpy, as a peer for speed and quality.

`inv` is the listing of Steck, WWW 2019: a general inverse. `potri` is the stronger peer: Cholesky and the inverse from
it, by LAPACK. Needs: pip install numpy scipy threadpoolctl
"""

import numpy as np
import peer_data
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits


def general_inverse(matrix):
    return np.linalg.inv(matrix)


def cholesky_inverse(matrix):
    factor, inverse = (lapack.spotrf, lapack.spotri) if matrix.dtype == np.float32 else (lapack.dpotrf, lapack.dpotri)
    lower, status = factor(matrix.T, lower=1, overwrite_a=1)
    if status:
        raise ValueError("the matrix is not positive definite: raise --l2")
    result, _ = inverse(lower, lower=1, overwrite_c=1)
    result = np.tril(result)
    result += np.tril(result, -1).T
    return result


def fit(train, l2, invert, dtype):
    gram = (train.T @ train).toarray().astype(dtype)
    gram[np.diag_indices_from(gram)] += l2
    inverse = invert(gram)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def main():
    arguments = peer_data.parser(__doc__)
    arguments.add_argument("--l2", type=float, default=200.0)
    arguments.add_argument("--method", choices=["inv", "potri"], default="inv")
    arguments.add_argument("--precision", choices=["single", "double"], default="double")
    options = arguments.parse_args()
    train = peer_data.read_lists(options.train, options.item_count)
    invert = general_inverse if options.method == "inv" else cholesky_inverse
    dtype = np.float32 if options.precision == "single" else np.float64
    with threadpool_limits(options.threads, "blas"):
        with peer_data.Stopwatch() as stopwatch:
            weights = fit(train, options.l2, invert, dtype)
        peer_data.report(f"numpy-ease-{options.method}-{options.precision}", options, stopwatch, train,
                         lambda _, known: known @ weights)


if __name__ == "__main__":
    main()
