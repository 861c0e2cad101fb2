"""Histograms of face size, sharpness and mask share, for the page of the data contract."""

import io

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from emd_core.contract.drift import LEVELS, Profile

BINS = 32
SHOWN = (0.002, 0.998)  # quantiles between which the axes run; what lies beyond counts in the last bins
TITLES = {
    "side": "face size, px of the source frame",
    "sharpness": "sharpness, squared grey levels",
    "mask_share": "mask share of manipulated crops",
}


def histograms(crops: pd.DataFrame, reference: Profile | None) -> bytes:
    """A PNG with a row per figure and a column per quality; a line per method, the reference behind them in grey.

    Equal crops (columns method, quality, label, side, sharpness, mask_share) give equal bytes.
    """
    qualities, methods = sorted(crops["quality"].unique()), sorted(crops["method"].unique())
    shown = [figure for figure in TITLES if figure != "mask_share" or crops[figure].notna().any()]
    figure = Figure(figsize=(min(5.5 * len(qualities), 11), 2.6 * len(shown)), layout="constrained", dpi=110)
    axes = figure.subplots(len(shown), len(qualities), squeeze=False, sharex="row")
    for line, name in zip(axes, shown, strict=True):
        rows = crops[crops["label"] == 1] if name == "mask_share" else crops
        edges = bin_edges(rows[name].dropna().to_numpy(), log=name == "sharpness")
        for axis, quality in zip(line, qualities, strict=True):
            if reference and quality in reference.qualities and name != "mask_share":
                _reference(axis, edges, getattr(reference.qualities[quality], name))
            for i, method in enumerate(methods):
                values = rows.loc[(rows["method"] == method) & (rows["quality"] == quality), name].dropna().to_numpy()
                if len(values):
                    axis.stairs(shares(values, edges), edges, color=f"C{i}", linewidth=1.4, label=method)
            axis.set(xlabel=TITLES[name], title=quality, xscale="log" if name == "sharpness" else "linear")
            if name == "sharpness":
                axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.xaxis.set_major_formatter("{x:g}")
                axis.xaxis.set_minor_locator(NullLocator())
            axis.set_yticks([])
            axis.spines[["top", "right", "left"]].set_visible(False)
    handles = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), frameon=False)
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return png.getvalue()


def bin_edges(values: NDArray[np.floating], *, log: bool) -> NDArray[np.float64]:
    """BINS + 1 rising edges over nearly all of the values; with `log` in equal ratios, over the positive ones."""
    values = values[values > 0] if log else values
    low, high = np.quantile(values, SHOWN) if len(values) else (1.0, 2.0)
    if log:
        return np.asarray(np.geomspace(low, max(high, low * 1.1), BINS + 1))
    return np.linspace(low, max(high, low + 1e-3 * max(1.0, abs(low))), BINS + 1)


def shares(values: NDArray[np.floating], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the values in each bin; they add up to 1."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return np.asarray(counts / len(values))


def _reference(axis: Axes, edges: NDArray[np.float64], quantiles: list[float]) -> None:
    """Fill the reference's share of each bin, with its quantiles joined by straight lines."""
    below = np.interp(edges, quantiles, LEVELS)
    below[0], below[-1] = 0, 1
    axis.stairs(np.diff(below), edges, fill=True, color="0.87", label="reference")
