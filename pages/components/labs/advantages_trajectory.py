"""One trajectory to drag: its surprises δ_t, its n-step advantages, and GAE's A_t as the sum of either."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import advantages_figures as figures
from pages.components.labs import setting
from pages.components.labs.advantages_made import LAB, Trajectory, default_rewards, default_values, explain
from pages.components.labs.drag_bars import drag_bars, set_bars
from pages.components.labs.live_figure import clicked, live_figure
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs import advantage_estimation as ae

LIMIT = 2.0


def draw() -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        made = _controls()
        st.session_state[f"{LAB}/trajectory"] = made
    with right:
        explain(made)
        with st.container(horizontal=True):
            t = int(setting.choice(LAB, "t", _("Step t (or click its bar)"), {str(t): f"t = {t}" for t in range(len(made))}))
            kinds = {"delta": _("surprises δ"), "n": _("n-step advantages")}
            by_delta = setting.choice(LAB, "pieces", _("Aₜ is made of"), kinds) == "delta"
        figure = figures.stack(made, by_delta, t)
        live_figure(figure, key="gae/stack", on_click=_clicked)
        _in_numbers(made, by_delta, t)
    _beside(made, t)


def _controls() -> Trajectory:
    st.markdown(_("Drag the bars: what each step paid, and what the critic expected. Then move λ."))
    with st.container(horizontal=True):
        gamma = setting.slider(LAB, "gamma", "γ", 0, 1, 0.9, 0.01, help=_("Discount: what a reward one step later is worth."))
        lam = setting.slider(LAB, "lambda", "λ", 0, 1, 0.8, 0.01, help=_("0 trusts the critic after one step, 1 waits for the end."))
    with st.container(horizontal=True, gap="small"):
        for name, words in (
            ("last", _("Reward only at the end")), ("slip", _("A slip in the middle")), ("blind", _("A critic that knows nothing")),
            ("perfect", _("A perfect critic")),
        ):  # fmt: skip
            st.button(words, key=f"gae/preset/{name}", on_click=_preset, args=(name, gamma))
    length = setting.whole(LAB, "length", _("Steps T"), 3, 10, 6, on_change=_resize)
    steps = [str(t) for t in range(length)]
    limits = {"low": -LIMIT, "high": LIMIT, "height": 160}
    rewards = drag_bars(LAB, "rewards", _("Rewards rₜ"), steps, list(default_rewards(length)), colours=theme.GREEN, **limits)
    values = drag_bars(LAB, "values", _("The critic's values Vₜ"), steps, list(default_values(length)), colours=theme.GREY, **limits)
    ended = setting.toggle(LAB, "ended", _("The episode ends here"), True, help=_("Off: it was cut, and goes on unseen."))
    bootstrap = 0.0
    if not ended:
        bootstrap = setting.slider(LAB, "bootstrap", _("V_T, the critic's value of all that comes after"), -LIMIT, LIMIT, 0.5, 0.05)
    return Trajectory(np.array(rewards), np.array(values), bootstrap, ended, gamma, lam)


def _preset(name: str, gamma: float) -> None:
    length = int(st.session_state.get(setting.key(LAB, "length"), 6))
    rewards, values = default_rewards(length), default_values(length)
    if name == "slip":
        rewards[length // 2] = -1.0
    elif name == "blind":
        values = np.zeros(length)
    elif name == "perfect":
        values = np.clip(ae.monte_carlo(ae.deltas(rewards, np.zeros(length), 0.0, gamma), gamma), -LIMIT, LIMIT)
        st.session_state[setting.key(LAB, "ended")] = True
    set_bars(LAB, "rewards", list(rewards))
    set_bars(LAB, "values", list(values))


def _resize() -> None:
    """The last reward stays the last; values are stretched."""
    length = int(st.session_state[setting.key(LAB, "length")])
    old = st.session_state.get(f"{setting.key(LAB, 'rewards')}/values")
    if old:
        body = [*old[:-1], *[0.0] * length][: length - 1]
        set_bars(LAB, "rewards", [*body, old[-1]])
    if old := st.session_state.get(f"{setting.key(LAB, 'values')}/values"):
        set_bars(LAB, "values", list(np.round(np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(old)), old), 2)))


def _clicked() -> None:
    x = clicked("gae/stack")
    if x is not None:
        st.session_state[f"{setting.key(LAB, 't')}/chosen"] = str(round(x))  # one that there is not is dropped by the choice


def _in_numbers(made: Trajectory, by_delta: bool, t: int) -> None:
    """The formulas for step t with everything put in, for the pieces that are drawn; then the terms of both sums in a table."""
    rest = len(made) - t
    surprises, decay = made.deltas[t:], made.gamma * made.lam
    weights, ahead = ae.n_step_weights(rest, made.lam), made.n_step[t, :rest]
    put_in = rf"{tex(made.rewards[t])}+{tex(made.gamma)}\cdot{tex(made.next_value(t))}-{tex(made.critic[t])}"
    if by_delta:
        terms = [rf"{tex(decay**step)}\cdot{tex(surprise)}" for step, surprise in enumerate(surprises)]
        formula = rf"\sum_l(\gamma\lambda)^l\,\delta_{{{t}+l}}"
    else:
        terms = [rf"{tex(weight)}\cdot{tex(value)}" for weight, value in zip(weights, ahead, strict=True)]
        formula = rf"\sum_n w_n\,A^{{(n)}}_{{{t}}}"
    after = f"V_{{{t + 1}}}" if t + 1 < len(made) else "V_T"
    block(
        rf"\delta_{{{t}}}=r_{{{t}}}+\gamma {after}-V_{{{t}}}={put_in}={result(float(surprises[0]))}",
        rf"A_{{{t}}}=\textstyle{formula}={_sum(terms)}={result(float(made.advantages[t]))}",
    )
    opened = st.expander(_("Every term of A_{t}").format(t=t), icon=":material/table_rows:", key="gae/terms", on_change="rerun")
    if opened.open:  # a table that nobody sees would make every slider wait
        with opened:
            gamma = number(made.gamma)
            rows = [
                {
                    "l": step,
                    "r + γV′ − V": f"{number(made.rewards[k])} + {gamma}·{_put(made.next_value(k))} − {_put(float(made.critic[k]))}",
                    "= δ": number(made.deltas[k]),
                    "(γλ)^l": number(decay**step),
                    "(γλ)^l · δ": number(decay**step * made.deltas[k]),
                    "n": step + 1,
                    "A^(n)": number(ahead[step]),
                    "w_n": number(weights[step]),
                    "w_n · A^(n)": number(weights[step] * ahead[step]),
                }
                for step, k in enumerate(range(t, len(made)))
            ]
            st.dataframe(pd.DataFrame(rows), hide_index=True)
            st.caption(
                _(
                    "Both columns of products sum to A_{t}. The weights are (1 − λ)λ^(n−1); the last takes all that remains, "
                    "λ^{rest} = {last}, since every longer n gives the same."
                ).format(t=t, rest=rest - 1, last=number(weights[-1]))
            )


def _put(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)


def _sum(terms: list[str], across: int = 3) -> str:
    """Terms with plus signs, ``across`` in a line of the aligned block."""
    lines = ["+".join(terms[i : i + across]) for i in range(0, len(terms), across)]
    return r"\\&\quad+".join(lines)


def _beside(made: Trajectory, t: int) -> None:
    """The simpler estimates next to GAE, and what GAE gives each n."""
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown(f"##### {_('TD(0), n-step, Monte-Carlo and GAE')}")
        n = setting.whole(LAB, "n", _("n of the n-step estimate"), 1, 10, 3)
        live_figure(figures.estimates(made, n, t), key="gae/estimates")
    with right:
        st.markdown(f"##### {_('How GAE weighs the n-step advantages')}")
        live_figure(figures.weights(made, t), key="gae/weights")
        if made.ended:
            st.caption(_("They sum to 1. The last bar is Monte-Carlo's: it takes what all longer n would have got."))
        else:
            st.caption(_("They sum to 1. The last bar is for all rewards, then V_T: it takes what all longer n would have got."))
