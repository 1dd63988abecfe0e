"""Colours and the plotly template, in one place: Okabe and Ito's palette, safe for the colour-blind, as in .streamlit/config.toml."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    import plotly.graph_objects as go

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#7A848F"

# One colour an algorithm, on every page.
ALGORITHM_COLOURS: dict[str, str] = {
    "grpo": BLUE,
    "ppo": ORANGE,
    "dpo": PURPLE,
    "online_dpo": GREEN,
    "reinforce": SKY,
    "rrhf": YELLOW,
    "reward_model": VERMILLION,
    "sft": GREY,
}
ROLE_COLOURS: dict[str, str] = {"policy": BLUE, "reference": GREY, "chosen": GREEN, "rejected": VERMILLION}

# For overlays of several runs, in this order.
SERIES_COLOURS: tuple[str, ...] = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, GREY, YELLOW)

# State of a run → (colour of st.badge, Material symbol).
STATE_BADGES: dict[str, tuple[Any, str]] = {
    "queued": ("gray", ":material/schedule:"),
    "running": ("blue", ":material/play_arrow:"),
    "paused": ("orange", ":material/pause:"),
    "finished": ("green", ":material/check:"),
    "stopped": ("gray", ":material/stop:"),
    "interrupted": ("orange", ":material/power_off:"),
    "failed": ("red", ":material/error:"),
}


def dark() -> bool:
    """Whether the browser shows the dark theme (light where it is not known: tests, the first moment of a session)."""
    return st.context.theme.type == "dark"


def ink(is_dark: bool) -> str:
    """The text colour of the theme."""
    return "#e4e8ec" if is_dark else "#1b2127"


def muted(is_dark: bool) -> str:
    """For axes, raw curves' notes and everything that should stay in the background."""
    return "#97a1ac" if is_dark else "#5c6670"


def on_ground(colour: str, is_dark: bool) -> str:
    """The colour for lines on the theme's ground: on the dark one the same hue, a third of the way to white."""
    if not is_dark:
        return colour
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{part + (255 - part) // 3:02X}" for part in parts)


def rgba(colour: str, alpha: float) -> str:
    """``#RRGGBB`` with an opacity, as plotly and CSS read it."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def layout(is_dark: bool) -> dict[str, Any]:
    """The plotly layout of every figure, for one theme: transparent, thin grid, tabular figures, no title (the page has it)."""
    grid = "#262e37" if is_dark else "#e8ebef"
    axis = {
        "gridcolor": grid, "linecolor": grid, "zeroline": False, "ticks": "", "automargin": True,
        "tickfont": {"color": muted(is_dark), "size": 11},
        "title": {"font": {"color": muted(is_dark), "size": 11}, "standoff": 6},
    }  # fmt: skip
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "Source Sans, sans-serif", "color": ink(is_dark), "size": 12},
        "colorway": list(SERIES_COLOURS),
        "margin": {"l": 44, "r": 10, "t": 8, "b": 30},
        "xaxis": axis,
        "yaxis": axis,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 11}},
        "hoverlabel": {
            "bgcolor": "#222a33" if is_dark else "#ffffff",
            "bordercolor": "#3a444f" if is_dark else "#cfd5dc",
            "font": {"color": ink(is_dark), "size": 12},
        },
    }


@lru_cache(maxsize=2)
def template(is_dark: bool) -> go.layout.Template:
    """A plotly template for ``figure.update_layout(template=…)`` of a figure for ``charts.still``.

    Made once: plotly takes 40 ms to check a template that is handed over as a dict, 1 ms for one that it has checked before.
    """
    import plotly.graph_objects as go  # not needed by Home, so not on the way to the first page

    return go.layout.Template(layout=layout(is_dark))


# Tabular figures, so that numbers do not dance while a run is live; calmer fading of what is being redrawn; long words wrap.
STYLE = """
<style>
[data-testid="stApp"] { font-variant-numeric: tabular-nums; }
[data-testid="stElementContainer"][data-stale="true"] { opacity: 1; transition: none; }
.st-key-token-formula .katex { font-size: 1em; }
.st-key-token-formula .katex-display { overflow-x: auto; overflow-y: hidden; margin: 0.2em 0; padding: 0.2em 0; }
[data-testid="stMarkdownContainer"] { overflow-wrap: anywhere; }
</style>
"""


def style() -> None:
    """Write the few rules of CSS that Streamlit's theme has no option for; called once, by pages/index.py."""
    st.html(STYLE)
