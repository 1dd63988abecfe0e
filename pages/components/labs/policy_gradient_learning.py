"""Learning curves: gradient ascent with each estimator from the same policy, several seeds each, against the exact gradient's ascent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import policy_gradient_estimators as estimators
from pages.components.labs import question, setting
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.policy_gradient_estimators import Batch
from pages.components.labs.policy_gradient_world import LAB, World
from pages.components.latex import result, tex
from pages.components.numbers import number
from rlhf.labs import gradient_estimators, policy_gradient

SURE = 0.9
_FOUND = f"{LAB}/learned"


def draw(world: World, left: DeltaGenerator, right: DeltaGenerator) -> None:
    with left:
        _presets()
        rate = setting.slider(LAB, "rate", _("Learning rate η"), 0.1, 10, 2, 0.1)
        batch, more = estimators.batch(world, "few", 2, 32)
    with more:
        updates = setting.whole(LAB, "updates", _("Updates"), 20, 200, 100, 20)
        seeds = setting.whole(LAB, "seeds", _("Runs of each estimator"), 3, 20, 15)
    made_with = (
        world.task.mdp.transition.tobytes(), world.task.mdp.reward.tobytes(), world.task.gamma, world.task.horizon, world.task.noise,
        world.logits.tobytes(), world.discounted, batch, rate, updates, seeds,
    )  # fmt: skip
    with right:
        _formula(world, rate)
        answered = question.guess(_question(), made_with)
        if st.button(_("Let them learn"), type="primary", icon=":material/play_arrow:", disabled=not answered, key=f"{LAB}/learn"):
            st.session_state[_FOUND] = (made_with, _learned(world, batch, rate, updates, seeds))
        if not answered:
            st.caption(_("Guess first: there is nothing to lose."))
        if _FOUND not in st.session_state:
            return
        before, found = st.session_state[_FOUND]
        if before != made_with:
            st.info(_("These curves are of the earlier settings. Let them learn again for the new ones."), icon=":material/history:")
        first, second = estimators.two()
        live_figure(_curves(found, (first, second)), key=f"{LAB}/curves")
        st.caption(
            _(
                "The exact J of the policy after each update; all estimators with the same luck. Lines: the median of the runs; dark "
                "band: the middle half, light band: from the worst to the best; dashed: ascent on the exact gradient; dotted: J*, the "
                "most that any policy can get."
            )
        )
        question.reveal(_question(found), before)
    st.markdown(f"##### {_('How it ended')}")
    _table(found)


def _presets() -> None:
    with st.container(horizontal=True, gap="small"):
        for name, words, n, rate in (("hasty", _("Hasty: n = 2, η = 4"), 2, 4.0), ("calm", _("Calm: n = 32, η = 1"), 32, 1.0)):
            st.button(words, key=f"{LAB}/learning/{name}", on_click=_set, args=(n, rate))


def _set(n: int, rate: float) -> None:
    st.session_state[setting.key(LAB, "few")] = n
    st.session_state[setting.key(LAB, "rate")] = rate


def _formula(world: World, rate: float) -> None:
    exact = policy_gradient.gradient(world.task, world.policy)
    state, action = (int(i) for i in np.unravel_index(np.abs(exact).argmax(), exact.shape))
    name, logit, slope = world.logit_name(state, action), float(world.logits[state, action]), float(exact[state, action])
    step = rf"{name}:\;{result(logit)}+{tex(rate)}\cdot{tex(slope)}={result(logit + rate * slope)}"
    st.latex(rf"\theta\leftarrow\theta+\eta\,\hat g,\qquad {step}\quad\text{{({_('exact')})}}")


def _question(found: gradient_estimators.Learning | None = None) -> question.Choice:
    """Which of them learned fastest is what was measured; before that, no answer is right."""
    right, because = -1, ""
    if found is not None:
        order = gradient_estimators.ESTIMATORS
        heights = {name: float(np.median(found.curves[name].mean(0))) for name in order}
        fastest, slowest = max(order, key=heights.__getitem__), min(order, key=heights.__getitem__)
        listed, guessed = estimators.names(), st.session_state.get(f"question/{LAB}/learning")
        right = order.index(fastest)
        if guessed is not None and heights[order[guessed]] == heights[fastest]:  # on a bandit, return and to_go are one
            right = int(guessed)
        alike = np.array_equal(found.curves["return"], found.curves["to_go"])
        same = " " + _("On a bandit the whole return is the reward to go: those two are one.") if alike else ""
        words = _(
            "Over all updates, median of the runs: highest {fastest} with a mean return of {high}, lowest {slowest} with {low}; the "
            "exact gradient has {exact}. An unbiased estimate goes the exact gradient's way on average, but J does not rise with the "
            "average step: a step too far in a wrong direction makes the policy sure of something wrong. Where they are close, another "
            "seed may turn the order round.{same}"
        )
        because = words.format(
            fastest=listed[fastest], high=number(heights[fastest]), slowest=listed[slowest], low=number(heights[slowest]),
            exact=number(float(found.exact.mean())), same=same,
        )  # fmt: skip
    return question.Choice(
        f"{LAB}/learning",
        _("Same start, same learning rate, as many episodes each. Whose return is highest over the whole run?"),
        list(estimators.names().values()), right, because,
    )  # fmt: skip


def _learned(world: World, batch: Batch, rate: float, updates: int, seeds: int) -> gradient_estimators.Learning:
    shown = st.progress(0.0, _("Learning …"))
    found = gradient_estimators.learn(
        world.task, world.logits, seeds=seeds, updates=updates, n=batch.n, rate=rate, constant=batch.constant,
        critic_rate=batch.critic_rate, seed=batch.seed, discounted=world.discounted,
        progress=lambda share: shown.progress(share, _("Learning …")),
    )  # fmt: skip
    shown.empty()
    return found


def _curves(found: gradient_estimators.Learning, shown: tuple[str, str]) -> Plot:
    is_dark = theme.dark()
    figure = Plot()
    listed = estimators.names()
    steps = np.arange(len(found.exact))
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    for name in dict.fromkeys(shown):
        colour = theme.on_ground(estimators.COLOURS[name], is_dark)
        low, quarter, three, high = np.quantile(found.curves[name], [0, 0.25, 0.75, 1], axis=1)
        for bottom, top, alpha in ((low, high, 0.10), (quarter, three, 0.22)):
            figure.scatter(x=steps, y=bottom, **edge)
            figure.scatter(x=steps, y=top, fill="tonexty", fillcolor=theme.rgba(colour, alpha), **edge)
    for name in gradient_estimators.ESTIMATORS:
        line = {"color": theme.on_ground(estimators.COLOURS[name], is_dark), "width": 2.5 if name in shown else 1}
        figure.scatter(
            x=steps, y=np.median(found.curves[name], axis=1), mode="lines", name=listed[name], line=line,
            opacity=1 if name in shown else 0.6, hovertemplate="%{y:.3f}",
        )  # fmt: skip
    dash = {"color": theme.ink(is_dark), "width": 2, "dash": "dash"}
    figure.scatter(x=steps, y=found.exact, mode="lines", name=_("exact gradient"), line=dash, hovertemplate="%{y:.3f}")
    figure.level(found.best, dash="dot")
    figure.words(1, found.best, f"J* = {number(found.best)}", xref="x domain", xanchor="right", yanchor="bottom")
    return figure.lay_out(
        height=430, hovermode="x",
        legend={"traceorder": "normal"}, xaxis={"title": {"text": _("update")}},
        yaxis={"title": {"text": _("expected return J")}},
    )  # fmt: skip


def _table(found: gradient_estimators.Learning) -> None:
    start, half = float(found.exact[0]), (float(found.exact[0]) + found.best) / 2
    rows = []
    for name, words in estimators.names().items():
        end = found.curves[name][-1]
        low, middle, high = np.quantile(end, [0.25, 0.5, 0.75])
        goal = start + 0.9 * (found.best - start)
        arrived = np.flatnonzero(np.median(found.curves[name], axis=1) >= goal)
        rows.append({
            _("Estimator"): words, _("J at the end, median"): number(float(middle)),
            _("middle half"): f"{number(float(low))} … {number(float(high))}",
            _("worst run"): number(float(end.min())), _("updates to 90 %"): str(arrived[0]) if len(arrived) else "–",
            _("stuck below half"): f"{int((end < half).sum())} / {len(end)}",
        })  # fmt: skip
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    words = _(
        "J began at {start}; J* = {best}; ascent on the exact gradient ended at {exact}. *Updates to 90 %*: until the median had gone "
        "nine tenths of the way to J*. *Stuck below half*: runs that ended less than half of the way up."
    )
    st.caption(words.format(start=number(start), best=number(found.best), exact=number(float(found.exact[-1]))))
    if found.best - start < 1e-9:
        st.info(_("The start is already as good as any policy: there is nothing to learn, and the curves show only what noise does."))
        return
    ended = {name: found.curves[name][-1] < half for name in gradient_estimators.ESTIMATORS}
    stuck, total = sum(int(low.sum()) for low in ended.values()), sum(len(low) for low in ended.values())
    if stuck:
        sure = np.concatenate([found.policies[name][low][:, found.start].max(-1) for name, low in ended.items()])
        words = _(
            "{stuck} of {total} runs are stuck. In the first state they take their favourite action with probability {sure}, on average."
        )
        if sure.mean() > SURE:
            why = _(
                "Noisy steps made them sure of something before they knew better (or they began so), and a policy that is sure has next to "
                "no gradient. Try a smaller learning rate, more episodes a batch, or a better baseline."
            )
        else:
            why = _("They are not sure of anything yet: try more updates or, where the curves are smooth, a larger learning rate.")
        said = words.format(stuck=stuck, total=total, sure=number(float(sure.mean()), "share"))
        st.info(f"{said} {why}", icon=":material/lightbulb:")
