"""One trajectory to drag: its surprises δ_t, its n-step advantages, and GAE's A_t as the sum of either."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.drag_bars import drag_bars, set_bars
from pages.components.labs.live_figure import clicked, live_figure
from pages.components.labs.plot import Plot
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs import advantage_estimation as ae
from rlhf.labs.mdp import Floats

LAB = "gae"
LIMIT = 2.0
PIECES = (
    theme.BLUE, theme.ORANGE, theme.GREEN, theme.PURPLE, theme.SKY, theme.VERMILLION, theme.YELLOW, theme.GREY, "#5D3A9B", "#8C6D31",
)  # fmt: skip


@dataclass(frozen=True)
class Trajectory:
    """What is set, and what follows from it."""

    rewards: Floats
    critic: Floats
    bootstrap: float
    ended: bool
    gamma: float
    lam: float

    def __len__(self) -> int:
        return len(self.rewards)

    @cached_property
    def deltas(self) -> Floats:
        # to five places: the link keeps six digits of a value, and a perfect critic's surprises are to read 0
        return np.round(ae.deltas(self.rewards, self.critic, self.bootstrap, self.gamma), 5)

    @cached_property
    def n_step(self) -> Floats:
        return ae.n_step(self.deltas, self.gamma)

    @cached_property
    def advantages(self) -> Floats:
        return ae.delta_terms(self.deltas, self.gamma, self.lam).sum(1)

    def next_value(self, t: int) -> float:
        return float(self.critic[t + 1]) if t + 1 < len(self) else self.bootstrap


def current() -> Trajectory:
    """The one that was drawn last; before any was, the one the lab begins with."""
    return st.session_state.get(f"{LAB}/trajectory") or Trajectory(_rewards(6), _values(6), 0.0, True, 0.9, 0.8)


def selected(length: int) -> int:
    chosen = str(st.session_state.get(f"{setting.key(LAB, 't')}/chosen", "0"))
    return min(int(chosen), length - 1) if chosen.isdecimal() else 0


def draw() -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        made = _controls()
        st.session_state[f"{LAB}/trajectory"] = made
    with right:
        _explain(made)
        with st.container(horizontal=True):
            t = int(setting.choice(LAB, "t", _("Step t (or click its bar)"), {str(t): f"t = {t}" for t in range(len(made))}))
            kinds = {"delta": _("surprises δ"), "n": _("n-step advantages")}
            by_delta = setting.choice(LAB, "pieces", _("Aₜ is made of"), kinds) == "delta"
        figure = _stack(made, by_delta, t)
        live_figure(figure, key="gae/stack", on_click=_clicked)
        _in_numbers(made, t)
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
    rewards = drag_bars(LAB, "rewards", _("Rewards rₜ"), steps, list(_rewards(length)), colours=theme.GREEN, **limits)
    values = drag_bars(LAB, "values", _("The critic's values Vₜ"), steps, list(_values(length)), colours=theme.GREY, **limits)
    ended = setting.toggle(LAB, "ended", _("The episode ends here"), True, help=_("Off: it was cut, and goes on unseen."))
    bootstrap = 0.0
    if not ended:
        bootstrap = setting.slider(LAB, "bootstrap", _("V_T, the critic's value of all that comes after"), -LIMIT, LIMIT, 0.5, 0.05)
    return Trajectory(np.array(rewards), np.array(values), bootstrap, ended, gamma, lam)


def _rewards(length: int) -> Floats:
    return np.append(np.zeros(length - 1), 1.0)


def _values(length: int) -> Floats:
    """A critic that has some idea, and doubts in the middle."""
    return np.round(np.interp(np.linspace(0, 5, length), np.arange(6), (0.3, 0.4, 0.35, 0.6, 0.5, 0.8)), 2)


def _preset(name: str, gamma: float) -> None:
    length = int(st.session_state.get(setting.key(LAB, "length"), 6))
    rewards, values = _rewards(length), _values(length)
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


def _explain(made: Trajectory) -> None:
    """Settings that do something a newcomer may not expect, in words."""
    blank = not made.critic.any()
    if not made.ended and made.gamma == 1:
        st.warning(
            _(
                "γ = 1 and no end: the rewards still to come are a sum that need not be finite, and all of it hangs on V_T = {value}. "
                "Here V_T enters A_0 with weight γ(γλ)^{power} = {weight}. Set γ below 1, or let the episode end."
            ).format(value=number(made.bootstrap), power=len(made) - 1, weight=number(made.lam ** (len(made) - 1)))
        )
    elif not made.ended and made.lam == 1 and made.gamma:
        st.info(_("Cut off, so even λ = 1 is not Monte-Carlo: what comes after is still the critic's word, V_T."))
    if blank and not made.rewards.any() and not made.bootstrap:
        st.info(_("No reward, and none expected: every surprise is 0, so nothing is learned here. Drag a reward."))
    elif blank and not made.bootstrap and made.lam == 0:
        st.info(
            _(
                "λ = 0 with a critic that says 0 everywhere: Aₜ is the step's own reward rₜ and nothing else. The steps that led to "
                "a later reward get no credit until the critic has learned to expect it."
            )
        )
    elif blank and made.ended and made.lam == 1:
        st.info(_("λ = 1 with a critic that says 0: Aₜ is the plain return, without a baseline. This is REINFORCE."))
    elif made.gamma == 0:
        st.info(_("γ = 0: nothing after the next reward counts, so Aₜ = rₜ − Vₜ whatever λ is."))
    elif not made.deltas.any():
        st.info(_("Every step went exactly as expected: all δ are 0, so A is 0 for every λ. A perfect critic leaves nothing to learn."))


def _stack(made: Trajectory, by_delta: bool, t: int) -> Plot:
    """A_t for each t as a stack of its pieces, and the total as a diamond."""
    is_dark, count = theme.dark(), len(made)
    if by_delta:
        pieces = ae.delta_terms(made.deltas, made.gamma, made.lam)
        names = [f"δ{_sub(k)}" for k in range(count)]
    else:
        weights = np.zeros((count, count))
        for row in range(count):
            weights[row, : count - row] = ae.n_step_weights(count - row, made.lam)
        pieces = np.nan_to_num(made.n_step) * weights
        names = [f"n = {n + 1}" for n in range(count)]
    steps, unfaded = list(range(count)), {"marker": {"opacity": 1}}
    plot = Plot()
    for k, name in enumerate(names):
        plot.bar(
            x=steps, y=pieces[:, k], name=name, marker={"color": theme.on_ground(PIECES[k], is_dark)}, unselected=unfaded,
            hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    edge = {"color": "#11151a" if is_dark else "#fff", "width": 1}
    plot.scatter(
        x=steps, y=made.advantages, name="Aₜ", mode="markers", unselected=unfaded,
        marker={"symbol": "diamond", "size": 10, "color": theme.ink(is_dark), "line": edge}, hovertemplate="A = %{y:.3f}<extra></extra>",
    )  # fmt: skip
    plot.band(t - 0.5, t + 0.5)
    plot.level()
    return plot.lay_out(
        height=330, barmode="relative", bargap=0.35, hovermode="closest", clickmode="event+select",
        xaxis={"title": {"text": "t"}, "dtick": 1, "fixedrange": True}, yaxis={"title": {"text": "Aₜ"}, "fixedrange": True},
        dragmode=False,
    )  # fmt: skip


def _sub(k: int) -> str:
    return str(k).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _in_numbers(made: Trajectory, t: int) -> None:
    """The formulas for step t with everything put in, then each of their terms in a table."""
    rest = len(made) - t
    surprises, decay = made.deltas[t:], made.gamma * made.lam
    weights, ahead = ae.n_step_weights(rest, made.lam), made.n_step[t, :rest]
    put_in = rf"{tex(made.rewards[t])}+{tex(made.gamma)}\cdot{tex(made.next_value(t))}-{tex(made.critic[t])}"
    by_delta = [rf"{tex(decay**step)}\cdot{tex(surprise)}" for step, surprise in enumerate(surprises)]
    by_n = [rf"{tex(weight)}\cdot{tex(value)}" for weight, value in zip(weights, ahead, strict=True)]
    after = f"V_{{{t + 1}}}" if t + 1 < len(made) else "V_T"
    total = result(float(made.advantages[t]))
    block(
        rf"\delta_{{{t}}}=r_{{{t}}}+\gamma {after}-V_{{{t}}}={put_in}={result(float(surprises[0]))}",
        rf"A_{{{t}}}=\textstyle\sum_l(\gamma\lambda)^l\,\delta_{{{t}+l}}={_sum(by_delta)}={total}",
        rf"A_{{{t}}}=\textstyle\sum_n w_n\,A^{{(n)}}_{{{t}}}={_sum(by_n)}={total}",
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
        live_figure(_estimates(made, n, t), key="gae/estimates")
    with right:
        st.markdown(f"##### {_('How GAE weighs the n-step advantages')}")
        rest = len(made) - t
        weights = ae.n_step_weights(rest, made.lam)
        plot = Plot()
        colours = [theme.on_ground(theme.SKY, plot.dark)] * (rest - 1) + [theme.on_ground(theme.GREEN, plot.dark)]
        names = [str(n) for n in range(1, rest)] + [f"≥ {rest}"]
        written = {"text": [number(w) for w in weights], "textposition": "outside", "cliponaxis": False} if rest <= 6 else {}
        plot.bar(x=names, y=weights, marker={"color": colours}, hovertemplate="%{y:.3f}<extra></extra>", **written)
        figure = plot.lay_out(
            height=300, yaxis={"range": [0, 1.12]}, margin={"t": 20},
            xaxis={"title": {"text": _("n, from t = {t}").format(t=t)}, "type": "category"},
        )  # fmt: skip
        live_figure(figure, key="gae/weights")
        if made.ended:
            st.caption(_("They sum to 1. The last bar is Monte-Carlo's: it takes what all longer n would have got."))
        else:
            st.caption(_("They sum to 1. The last bar is for all rewards, then V_T: it takes what all longer n would have got."))


def _estimates(made: Trajectory, n: int, t: int) -> Plot:
    is_dark, count = theme.dark(), len(made)
    steps = list(range(count))
    n_step = [float(made.n_step[k, min(n, count - k) - 1]) for k in steps]
    plot = Plot()
    for name, values, colour in (
        ("TD(0)", made.deltas, theme.ORANGE),
        (f"n = {n}", n_step, theme.SKY),
        (f"GAE, λ = {number(made.lam)}", made.advantages, theme.BLUE),
        (_("Monte-Carlo") if made.ended else _("All rewards, then V_T"), ae.monte_carlo(made.deltas, made.gamma), theme.GREEN),
    ):
        plot.bar(
            x=steps,
            y=values,
            name=name,
            marker={"color": theme.on_ground(colour, is_dark)},
            hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
        )
    plot.band(t - 0.5, t + 0.5)
    plot.level()
    return plot.lay_out(
        height=300, barmode="group", bargap=0.25,
        xaxis={"title": {"text": "t"}, "dtick": 1}, yaxis={"title": {"text": "Aₜ"}},
    )  # fmt: skip
