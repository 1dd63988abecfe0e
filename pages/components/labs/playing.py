"""Set, step, play, reset: a place in a sequence of frames that a lab computes, moved by buttons or by itself.

Drawn inside the lab's body, which ``frame.draw`` runs as a fragment: while it plays, that fragment runs again every ``PACE`` seconds.
"""

from __future__ import annotations

import streamlit as st

from pages.components.i18n import _

PACE = 0.5


def pace(lab: str) -> float | None:
    """How often the lab's body is to run by itself; None while nothing plays. For ``frame.draw``, which runs with the whole page."""
    plays = bool(st.session_state.get(f"{lab}/playing"))
    st.session_state[f"{lab}/ticking"] = plays
    st.session_state[f"{lab}/players"] = set()
    return PACE if plays else None


def keep_pace(lab: str) -> None:
    """Run the whole page when playing has begun or ended: it alone sets how often the fragment runs by itself."""
    if bool(st.session_state.get(f"{lab}/playing")) != st.session_state.get(f"{lab}/ticking", False):
        st.rerun()


def leave(lab: str) -> None:
    """After the body: a player that it no longer draws, as its part of the lab was left, is at rest."""
    drawn, name = st.session_state.get(f"{lab}/players", set()), st.session_state.get(f"{lab}/playing")
    if isinstance(name, str) and name not in drawn:
        st.session_state.pop(f"{lab}/playing")
    st.session_state[f"{lab}/players"] = set()
    keep_pace(lab)


def player(lab: str, last: int | None, name: str = "play") -> int:
    """Draw the buttons; → the frame to show, from 0 to ``last`` (None: there is no last one).

    One player of a lab may play at a time; its frame is kept in the session under ``LAB/NAME``. A sequence that has become shorter
    is shown at its end.
    """
    at = f"{lab}/{name}"
    playing = st.session_state.get(f"{lab}/playing") == name
    frame = int(st.session_state.get(at, 0))
    st.session_state.setdefault(f"{lab}/players", set()).add(name)
    if playing:
        keep_pace(lab)
        frame += 1
    if last is not None and frame >= last:
        frame = last
        if playing:
            st.session_state[at] = frame
            st.session_state.pop(f"{lab}/playing")
            keep_pace(lab)
    st.session_state[at] = frame
    ended = last is not None and frame >= last
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(_("Reset"), icon=":material/restart_alt:", key=f"{at}/reset", on_click=_go, args=(lab, name, 0), disabled=frame == 0)
        st.button(
            _("Back"),
            icon=":material/skip_previous:",
            key=f"{at}/back",
            on_click=_go,
            args=(lab, name, max(0, frame - 1)),
            disabled=frame == 0,
        )
        st.button(_("Step"), icon=":material/skip_next:", key=f"{at}/step", on_click=_go, args=(lab, name, frame + 1), disabled=ended)
        if playing:
            st.button(_("Pause"), icon=":material/pause:", key=f"{at}/pause", on_click=_pause, args=(lab,))
        else:
            st.button(
                _("Play"), icon=":material/play_arrow:", key=f"{at}/start", on_click=start, args=(lab, name, 0 if ended else frame),
                disabled=last == 0, type="primary",
            )  # fmt: skip
        counted = f"{frame} / {last}" if last is not None else f"{frame}"
        st.caption(counted, width="content")
    return frame


def reset(lab: str, name: str = "play") -> None:
    """Back to the first frame and at rest: for the callback of a setting that starts the sequence anew."""
    st.session_state[f"{lab}/{name}"] = 0
    st.session_state.pop(f"{lab}/playing", None)


def _go(lab: str, name: str, frame: int) -> None:
    st.session_state[f"{lab}/{name}"] = frame
    st.session_state.pop(f"{lab}/playing", None)


def start(lab: str, name: str, frame: int = 0) -> None:
    """Play from a frame: in a callback, or before ``player`` is drawn."""
    st.session_state[f"{lab}/{name}"] = frame
    st.session_state[f"{lab}/playing"] = name


def _pause(lab: str) -> None:
    st.session_state.pop(f"{lab}/playing", None)
