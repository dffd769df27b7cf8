"""The style of the plots: in a new figure alone, and readable without colours."""

from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from keras_onecycle import OneCycle

pytestmark = pytest.mark.any_backend


def test_a_plot_leaves_the_users_style_as_it_is() -> None:
    before = dict(mpl.rcParams)
    figure = OneCycle(0.1, total_steps=10).plot()
    assert not figure.axes[0].spines["top"].get_visible()
    plt.close(figure)
    assert dict(mpl.rcParams) == before


def test_in_grey_no_two_lines_look_alike() -> None:
    with plt.style.context("keras_onecycle.onecycle"):
        lines = list(mpl.rcParams["axes.prop_cycle"])
    assert len(lines) == 6
    for one, other in combinations(lines, 2):
        # By the luminance of Rec. 709.
        greys = [np.dot(to_rgb(line["color"]), (0.2126, 0.7152, 0.0722)) for line in (one, other)]
        assert one["linestyle"] != other["linestyle"] or abs(greys[0] - greys[1]) > 0.1
