"""How far numbers in floating point are from exact ones, in units in the last place (ulp)."""

import ml_dtypes
import mpmath
import numpy as np


def ulp_of(magnitude, dtype):
    """The spacing of the dtype at a magnitude; below the normal range, that of the subnormals."""
    info = ml_dtypes.finfo(dtype)
    _, exponent = np.frexp(np.clip(magnitude, float(info.smallest_normal), float(info.max)))
    return np.ldexp(float(info.eps), exponent - 1)  # of the power of two at or below the magnitude


def ulp_error(actual, exact, dtype, scale=None):
    """The error of each element in ulps of the exact number, or of `scale` where that is larger.

    `exact` is an array of mpmath numbers. NaN agrees with NaN only and an infinity with its own
    kind; a number too large for the dtype agrees with infinity. All other disagreements about
    what is finite are errors of inf. An exact 0 is measured in the smallest subnormals.
    """
    actual = np.asarray(actual).astype(np.float64)
    exact = np.asarray(exact, dtype=object)
    if actual.shape != exact.shape:
        raise AssertionError(f"shape {actual.shape} must be the exact one, {exact.shape}")
    high = np.array([float(e) for e in exact.ravel()]).reshape(exact.shape)
    size = np.abs(high)
    if scale is not None:
        scales = np.array([float(s) for s in np.asarray(scale, dtype=object).ravel()])
        scales = np.where(np.isfinite(scales), np.abs(scales), 0.0)  # inf excuses nothing
        size = np.maximum(size, scales.reshape(exact.shape))
    limit = float(ml_dtypes.finfo(dtype).max)
    unit = ulp_of(np.where(np.isfinite(size), size, limit), dtype)
    # What rounding to float64 dropped still counts when float64 itself is judged.
    parts = zip(exact.ravel(), high.ravel().tolist(), unit.ravel().tolist(), strict=True)
    low = np.array([float((e - h) / u) if np.isfinite(h) else 0.0 for e, h, u in parts])
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs((actual - high) / unit - low.reshape(exact.shape))
    overflow = np.abs(high) - limit >= ulp_of(limit, dtype) / 2
    same_side = np.signbit(actual) == np.signbit(high)
    agree = (np.isnan(high) & np.isnan(actual)) | (np.isinf(actual) & overflow & same_side)
    error = np.where(agree, 0.0, error)
    return np.where(np.isnan(error), np.inf, error)


def assert_ulp(actual, exact, dtype, max_ulp, scale=None, what="value"):
    """Every element of `actual` lies within `max_ulp` (a number or one for each element)."""
    error = ulp_error(actual, exact, dtype, scale)
    limit = np.broadcast_to(max_ulp, error.shape)
    if error.size == 0 or np.all(error <= limit):
        return
    excess = np.where(error <= limit, 0.0, error / np.maximum(limit, 1e-9))
    worst = np.unravel_index(np.argmax(excess), error.shape)
    got = float(np.asarray(actual)[worst])
    want = np.asarray(exact, dtype=object)[worst]
    # Beyond float64 the digits of the exponent alone could fill pages.
    want = mpmath.nstr(want, 20) if 0 < abs(float(want)) < np.inf else float(want)
    raise AssertionError(
        f"{what}{list(map(int, worst))} must be {want} within {float(limit[worst]):g} ulp of"
        f" {np.dtype(dtype).name}; got {got!r}, {error[worst]:.4g} ulp away"
        f" ({np.count_nonzero(error > limit)} of {error.size} elements are too far)."
    )
