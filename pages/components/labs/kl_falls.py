"""Lab 6, part 4: the ways in which DPO's loss of a pair falls, searched for live among small models whose answers share features."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st

from pages.components import latex, theme
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.kl_example import LAB, LETTERS, beta_slider, grouped
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.question import Choice, guess, reveal
from pages.components.latex import result, tex
from pages.components.numbers import number
from rlhf.labs import dpo_derivation as dd
from rlhf.labs.mdp import Floats

COLOURS = {dd.APART: theme.BLUE, dd.BOTH_DOWN: theme.VERMILLION, dd.BOTH_UP: theme.GREEN}
MODELS, RATE = 1000, 1.0
FOUND = "kl/falls/found"


def names() -> dict[int, str]:
    return {
        dd.APART: _("chosen up, rejected down"),
        dd.BOTH_DOWN: _("both down"),
        dd.BOTH_UP: _("both up"),
    }


def draw() -> None:
    st.markdown(
        _(
            "DPO's loss of a pair sees only the *margin* between the two log-ratios. Where the probabilities themselves go is left open, "
            "and in a language model the answers share weights. Draw {models} tiny models at random, each with its own reference, and "
            "let exact gradient descent lower the loss of one pair: A is chosen, B is rejected."
        ).format(models=MODELS)
    )
    asked = st.container()
    settings = _settings()
    with asked:
        answered = guess(_question(None), settings[2] > 0)
    if not answered:
        st.caption(_("Answer, then search."))
        return
    if settings[0] == 0:
        st.info(
            _("With β = 0 the margin is always 0: the loss stays at log 2 and has no gradient. Move β above 0."), icon=":material/block:"
        )
        return
    if st.button(_("Search {models} models").format(models=MODELS), key="kl/falls/search", type="primary", icon=":material/search:"):
        with st.spinner(_("Descending")):
            st.session_state[FOUND] = settings, _search(*settings)
    if FOUND not in st.session_state:
        return
    made_with, path = st.session_state[FOUND]
    if made_with != settings:
        st.caption(f":material/history: {_('This is from the earlier settings. Search again.')}")
    _show(path, made_with)
    reveal(_question(path, made_with[2]), made_with[2] > 0)  # on nothing else does the answer depend


def _settings() -> tuple[float, int, int, int, int]:
    """β, answers, shared features, steps, seed."""
    left, middle, right = st.columns(3, gap="large")
    with left:
        beta = beta_slider()
    with middle:
        words = _("The logits are Φθ: each answer has so many features, and all answers share θ. 0: each answer has a logit of its own.")
        features = setting.whole(LAB, "features", _("Shared features"), 0, 6, 2, help=words)
    with right, st.expander(_("More"), icon=":material/tune:"):
        count = setting.whole(LAB, "among", _("Answers of each model"), 3, 6, 4)
        steps = setting.whole(LAB, "descents", _("Steps of gradient descent"), 5, 100, 20, 5)
        seed = setting.seed(LAB)
    return beta, count, features, steps, seed


def _search(beta: float, answers: int, features: int, steps: int, seed: int) -> Floats:
    models = dd.draw_models(np.random.default_rng(seed), MODELS, answers, features)
    return dd.descend(models, beta, RATE, steps)


def _show(path: Floats, made_with: tuple[float, int, int, int, int]) -> None:
    beta, _answers, features, *_rest = made_with
    found = {way: dd.clearest(path, way) for way in names()}
    ways = dd.ways(path)
    left, right = st.columns([3, 2], gap="large")
    with left:
        live_figure(_plane(path, beta, found), key="kl/falls/plane")
        st.caption(
            _(
                "Each dot is a model after its descent. On a grey line the loss is the same everywhere: it asks only how far you are "
                "below the diagonal."
            )
        )
    with right:
        for way, name in names().items():
            st.metric(name, _("{count} of {all}").format(count=int((ways == way).sum()), all=len(ways)))
        never = _("Chosen down and rejected up: {count}. It is the one way that would raise the loss.")
        st.caption(never.format(count=int((ways == dd.AGAINST).sum())))
    st.markdown(f"##### {_('The clearest of each, as it was found')}")
    for column, (way, model) in zip(st.columns(3, gap="medium"), found.items(), strict=True):
        with column.container(border=True):
            _example(path, beta, features, way, model)


def _example(path: Floats, beta: float, features: int, way: int, model: int | None) -> None:
    st.markdown(f"**{names()[way].capitalize()}**")
    if model is None:
        other = _("Another seed, or another number of features, may find one.")
        own = _("Without shared features none can: the logit of A alone rises, and that of B alone falls.")
        st.caption(f"{_('None of these models went this way.')} {other if features else own}")
        return
    before, after = np.exp(path[0, model]), np.exp(path[-1, model])
    answers = list(LETTERS[: len(before)])
    grouped(answers, {_("before"): (before, theme.GREY), _("after"): (after, COLOURS[way])}, f"kl/falls/{way}", height=200, labelled=False)
    h = path[-1, model] - path[0, model]
    margin = beta * (h[0] - h[1])
    latex.block(
        rf"h_A=\log\tfrac{{{tex(after[0])}}}{{{tex(before[0])}}}={result(h[0])}",
        rf"h_B=\log\tfrac{{{tex(after[1])}}}{{{tex(before[1])}}}={result(h[1])}",
        rf"m=\beta(h_A-h_B)={result(margin)}",
        rf"\mathcal L=-\log\sigma(m)={result(float(dd.pair_loss(margin)))}",
    )
    others = after[2:] - before[2:]
    moved = float(others.sum())
    at = int((others * np.sign(moved)).argmax()) + 2
    words = (
        _("The pair lost {share} of probability to the other answers, of which {name} gained most.")
        if moved > 0
        else _("The pair took {share} of probability from the other answers, of which {name} lost most.")
    )
    fell = _("The loss fell from {before} to {after}.").format(before=number(math.log(2)), after=number(float(dd.pair_loss(margin))))
    st.caption(f"{fell} {words.format(share=number(abs(moved), 'share'), name=answers[at])}")


def _plane(path: Floats, beta: float, found: dict[int, int | None]) -> Plot:
    """Change of log π of the chosen answer against that of the rejected one, over lines of equal loss."""
    is_dark = theme.dark()
    change = path - path[0]
    ends, ways = change[-1, :, :2], dd.ways(path)
    reach = float(np.clip(np.quantile(np.abs(ends), 0.98) * 1.1, 0.2, 6.0))
    figure = Plot()
    muted = theme.muted(is_dark)
    grid = np.array([-reach, reach])
    for k in range(-6, 7):
        shift = k * reach / 3
        loss = float(dd.pair_loss(-beta * shift))
        figure.scatter(
            x=grid, y=grid + shift, mode="lines", showlegend=False, line={"color": theme.rgba(muted, 0.7 if k == 0 else 0.3), "width": 1},
            hovertemplate=_("loss {loss}").format(loss=number(loss)) + "<extra></extra>",
        )  # fmt: skip
    for way, name in names().items():
        colour, mine = theme.on_ground(COLOURS[way], is_dark), ways == way
        figure.scatter(
            x=ends[mine, 0], y=ends[mine, 1], mode="markers", name=name, marker={"color": colour, "size": 4, "opacity": 0.5},
            hovertemplate="Δ log π(A) %{x:.3f}<br>Δ log π(B) %{y:.3f}<extra></extra>",
        )  # fmt: skip
        if (model := found[way]) is not None:
            line = change[:, model]
            figure.scatter(x=line[:, 0], y=line[:, 1], mode="lines", line={"color": colour, "width": 3}, showlegend=False, hoverinfo="skip")
            figure.scatter(
                x=line[-1:, 0], y=line[-1:, 1], mode="markers", showlegend=False, hoverinfo="skip",
                marker={"color": colour, "size": 13, "symbol": "star", "line": {"width": 1, "color": theme.ink(is_dark)}},
            )  # fmt: skip
    for x, y, words in ((0.62, 0.78, _("same loss as at the start")), (0.55, -0.93, _("smaller loss"))):
        figure.words(x * reach, y * reach, words)
    axis = {"range": [-reach, reach], "zeroline": True, "zerolinecolor": muted, "zerolinewidth": 1}
    return figure.lay_out(
        height=420, hovermode="closest", legend={"itemsizing": "constant"},
        xaxis={**axis, "title": {"text": "Δ log π(A), " + _("chosen")}}, yaxis={**axis, "title": {"text": "Δ log π(B), " + _("rejected")}},
    )  # fmt: skip


def _question(path: Floats | None, features: int = 0) -> Choice:
    """Right is what was found, once it was."""
    because, right = "", 1
    if path is not None:
        ways, h = dd.ways(path), path[-1] - path[0]
        fell = int((h[:, dd.CHOSEN] > h[:, dd.REJECTED]).sum())
        down = int((ways == dd.BOTH_DOWN).sum())
        right = 0 if down == 0 else 2 if down == len(ways) else 1
        found = _("The chosen answer's probability fell in {down} of {all} models, though the loss fell in {fell}.")
        why = (
            _(
                "Descent moves θ along φ_w − φ_l. An answer outside the pair whose features point even further that way gains more than "
                "the chosen one, and the probabilities must still sum to 1. With 0 shared features that cannot be."
            )
            if features
            else _("Nothing is shared here: descent touches only the pair's own two logits, so the chosen answer always rises.")
        )
        because = f"{found.format(down=down, all=len(ways), fell=fell)} {why}"
    return Choice(
        "kl/falls",
        _("The loss of a pair falls at each step. What happens to the probability of the *chosen* answer in these models?"),
        [_("It always rises"), _("It may fall too, as long as the rejected one falls more"), _("It always falls"), _("It stays")],
        right,
        because,
    )
