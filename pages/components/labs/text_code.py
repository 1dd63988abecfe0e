"""The same world for an agent of one's own: a gymnasium environment, its example, and the example run."""

from __future__ import annotations

import streamlit as st

from pages.components.i18n import _

RESULT = "mdp/example"


def draw() -> None:
    from rlhf.labs.text_generation import EXAMPLE, ID  # gymnasium: only where it is shown

    st.markdown(_(
        "The same states, actions and rewards as an environment of [Gymnasium](https://gymnasium.farama.org): any agent that speaks its "
        "interface can learn to write. These ten lines are run by a test of the app, as they stand here."
    ))  # fmt: skip
    st.code(EXAMPLE, language="python")
    if st.button(_("Run it"), icon=":material/play_arrow:", key="mdp/example-run", type="primary"):
        with st.spinner(_("Writing")):
            st.session_state[RESULT] = run(EXAMPLE)
    if RESULT in st.session_state:
        st.code(st.session_state[RESULT], language=None)
        st.caption(_("The prompt, a bar, what was written, and ∎ for the end token. Another seed in the code gives another answer."))
    facts = (
        _("**Action**: `Discrete(V)`, a token of the vocabulary."),
        _("**Observation**: a dict of `tokens`, the ids of prompt and text padded to a fixed length, and `length`, how many count."),
        _("**Reward**: 0 until the end, then the reward function's; `by_token=True` pays a process reward (`digits`) as it is earned."),
        _("**End**: `terminated` by the model's end token, `truncated` at `max_new_tokens`."),
        _("**Start**: a prompt by chance, or the one in `options`. `env.policy()` are the model's own probabilities."),
        _('**By name**: `gymnasium.make("{id}", …)`, once `rlhf.labs.text_generation` is imported.').format(id=ID),
    )
    st.markdown("\n".join(f"- {fact}" for fact in facts))


def run(example: str) -> str:
    """What the example prints. It is a constant of the code, no text of a user; its ``print`` is ours, as stdout is the whole server's."""
    printed: list[str] = []
    exec(compile(example, "example", "exec"), {"print": lambda *values: printed.append(" ".join(map(str, values)))})
    return "\n".join(printed)
