"""The page of one algorithm: its formula, the settings and the card on the left, the live run on the right.

A page gives its words (`About`); everything else is the same for all algorithms and comes from their configs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st
from streamlit.components.v2 import component

from pages.components import algorithm_setup, config_form, data_editor, reward_editor, setting_widget, state, theme
from pages.components.algorithm_setup import Preset
from pages.components.i18n import _
from pages.components.live import live_panel
from pages.components.text import plain
from rlhf import runs as run_folders
from rlhf.algorithms import title
from rlhf.config import OnlineConfig
from rlhf.errors import PlaygroundError
from rlhf.preferences import EMBEDDED

RECENT = 5  # runs offered where none is shown
STARTED = "algorithm-page/started"

# Start stands below the settings; the run that it starts is shown beside their beginning, or above it where there is no room.
_to_the_run = component(
    "rlhf_to_the_run",
    js="""export default function ({ data }) {
      if (window.rlhfBroughtUp === data) return
      window.rlhfBroughtUp = data
      document.querySelector(".st-key-run-and-setup")?.scrollIntoView({ block: "start", behavior: "smooth" })
    }""",
)

# Beside each other only where there is room; one below the other, a run that is shown comes before the settings of the next one.
STYLE = """
<style>
.st-key-to-the-run { display: none; }
.st-key-run-and-setup { scroll-margin-top: 4.5rem; }
@media (max-width: 1100px) {
  .st-key-setup [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]),
  .st-key-run-and-setup [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]) { flex-direction: column; }
  .st-key-run-and-setup > * > [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]),
  .st-key-run-and-setup > [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]) { flex-direction: column-reverse; }
  .st-key-setup [data-testid="stColumn"], .st-key-run-and-setup [data-testid="stColumn"] { width: 100%; flex: 1 1 auto; min-width: 0; }
}
[class*="st-key-choice-"] .katex { font-size: 1.05em; }
[class*="st-key-choice-"] .katex-display { overflow-x: auto; overflow-y: hidden; margin: 0.4em 0; padding-block: 0.25rem; }
.st-key-formula .katex { font-size: 1.08em; }
.st-key-formula .katex-display { overflow-x: auto; overflow-y: hidden; padding-block: 0.25rem; }
.st-key-formula table { overflow-wrap: break-word; }
</style>
"""


@dataclass(frozen=True)
class About:
    """An algorithm in words. ``formula``: LaTeX; ``reading``: two lines on it; ``paper``: (title, link).

    ``plan``: what a run will do, with the places for numbers that ``preflight.in_words`` fills.
    """

    algorithm: str
    lead: str
    formula: str
    reading: str
    paper: tuple[str, str]
    plan: str
    presets: Sequence[Preset] = ()
    more: Callable[[], None] | None = None  # further explanation, below the formula
    after: Callable[[str], None] | None = None  # what can be done with a run of it, by its id; drawn below its panel


def draw(about: About) -> None:
    """The whole page."""
    st.html(STYLE)
    st.title(_(title(about.algorithm)), anchor=False)
    st.markdown(about.lead)
    if started := algorithm_setup.just_started(about.algorithm):
        state.show_run(about.algorithm, started)
        st.session_state[STARTED] = started
    run_id = _own(about.algorithm, state.shown_run(about.algorithm))
    if run_id:
        _own_data_again(about.algorithm, run_id)
        with st.expander(_("The formula"), icon=":material/function:"):
            _formula(about)
    with st.container(key="run-and-setup" if run_id else "setup"):
        left, right = st.columns([2, 3], gap="medium")
    with left:
        algorithm_setup.setup(about.algorithm, about.plan, about.presets, run_id)
    with right:
        if run_id:
            if run_id == st.session_state.get(STARTED):
                _to_the_run(key="to-the-run", data=run_id)
            live_panel(run_id)
            if about.after:
                about.after(run_id)
            _settings_of(about.algorithm, run_id)
        else:
            _no_run(about.algorithm)
            with st.container(border=True):
                _formula(about)


def _own(algorithm: str, run_id: str | None) -> str | None:
    """The run, if it is of this algorithm (or is gone, which its panel says); else where it is shown."""
    if not run_id:
        return None
    try:
        of = state.feed(run_id).run.algorithm
    except PlaygroundError:
        return run_id
    if of in ("", algorithm):  # "": its folder is damaged
        return run_id
    state.forget_run(algorithm)  # without that link the page is its own again
    st.info(_("The link leads to a run of {algorithm}.").format(algorithm=_(title(of))), icon=":material/info:")
    st.page_link(f"{of}.py", label=_("Open the run, down to its tokens"), icon=":material/arrow_outward:", query_params={"run": run_id})
    return None


def _formula(about: About) -> None:
    paper, link = about.paper
    files = f"`docs/algorithms.md`, `rlhf/algorithms/{about.algorithm}.py`"
    with st.container(key="formula"):
        st.latex(about.formula)
        st.markdown(about.reading)
        if about.more:
            about.more()
        st.caption(_("Paper: [{title}]({link}). Equation by equation, and the code: {files}.").format(title=paper, link=link, files=files))


def _own_data_again(algorithm: str, run_id: str) -> None:
    """A link to a run on data of one's own: in a new session the form gets that data back from the run's folder."""
    if st.query_params.get(config_form.key(algorithm, "data")) == data_editor.CUSTOM and not data_editor.has_own(algorithm):
        try:
            data_editor.use(algorithm, run_folders.open_run(run_id).load_data())
        except PlaygroundError as error:
            st.warning(plain(str(error)), icon=":material/info:")


# ---------------------------------------------------------------- right: a run, or none yet


def _no_run(algorithm: str) -> None:
    recent = [run for run in run_folders.list_runs() if run.algorithm == algorithm][:RECENT]
    with st.container(border=True):
        st.markdown(_("**No run is shown.** Start one, and its curves, samples and numbers appear here while it trains."))
        if recent:
            st.caption(_("Or look at an earlier one:"))
        for run in recent:
            status = run.status
            words = _("{name}, {model}, step {step} of {steps}")
            words = plain(words.format(name=run.name, model=run.model, step=status.step, steps=status.steps))
            icon = theme.STATE_BADGES[status.state][1]
            st.button(words, icon=icon, type="tertiary", key=f"show:{run.id}", on_click=state.show_run, args=(algorithm, run.id))


def _settings_of(algorithm: str, run_id: str) -> None:
    """The settings that the shown run has, which need not be the form's; and a way to take them over."""
    try:
        run = run_folders.open_run(run_id)
        config = run.load_config()
    except PlaygroundError:
        return  # the panel says what is wrong with it
    with st.expander(_("Settings of this run"), icon=":material/tune:"):
        show = setting_widget.show
        changed = config.differences()
        lines = [f"{plain(setting_widget.label(name))}: **{plain(show(value, name)) or '–'}**" for name, (_old, value) in changed.items()]
        st.markdown(_("Model: **{model}**").format(model=plain(config.model)) + "".join(f"  \n{line}" for line in lines))
        st.caption(_("Everything else is this model's default."))
        if config.algorithm == algorithm:
            words = _("Put them into the form")
            st.button(words, icon=":material/arrow_back:", key="take-over", on_click=_take_over, args=(algorithm, run_id))


def _take_over(algorithm: str, run_id: str) -> None:
    """The form gets a run's settings and, where it was the user's own, its data."""
    run = run_folders.open_run(run_id)
    config = run.load_config()
    st.session_state[config_form.key(algorithm, "model")] = config.model
    st.session_state[f"{algorithm}/model-before"] = config.model
    st.session_state[config_form.key(algorithm, "adapter_from")] = config.adapter_from or ""
    config_form.fill(algorithm, {name: getattr(config, name) for name in type(config).model_fields})
    if isinstance(config, OnlineConfig):
        reward_editor.fill(algorithm, config.reward)
    if config.data in EMBEDDED:
        st.session_state[config_form.key(algorithm, "data")] = config.data
    else:
        data_editor.use(algorithm, run.load_data())
