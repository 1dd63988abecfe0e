"""The models that the app names: those that ship with it, and small ones of the Hub that are known to work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "assets"


@dataclass(frozen=True)
class Entry:
    """``parameters``: count; ``download_mb``: megabytes fetched at the first use (0: none)."""

    id: str
    title: str
    parameters: int
    download_mb: int
    licence: str
    note: str
    embedded: bool = False


CATALOGUE: dict[str, Entry] = {
    entry.id: entry
    for entry in (
        Entry(
            "story",
            "Story",
            1_598_880,
            0,
            "Apache-2.0",
            "Writes very short stories in simple English; learns on two cores within a minute.",
            True,
        ),
        Entry("sums", "Sums", 333_696, 0, "Apache-2.0", "Adds two-digit numbers, right about four times in ten.", True),
        Entry(
            "HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM2 135M Instruct", 134_515_008, 270, "Apache-2.0", "Small chat model; a GPU helps."
        ),
        Entry(
            "HuggingFaceTB/SmolLM2-360M-Instruct",
            "SmolLM2 360M Instruct",
            361_821_120,
            725,
            "Apache-2.0",
            "Better chat model; wants a GPU.",
        ),
        Entry(
            "Qwen/Qwen2.5-0.5B-Instruct",
            "Qwen2.5 0.5B Instruct",
            494_032_768,
            990,
            "Apache-2.0",
            "Good at short sums and instructions; wants a GPU.",
        ),
        Entry("Qwen/Qwen3-0.6B", "Qwen3 0.6B", 596_049_920, 1500, "Apache-2.0", "Reasons before it answers; wants a GPU."),
        Entry(
            "google/gemma-3-270m-it",
            "Gemma 3 270M",
            268_098_176,
            540,
            "Gemma (gated)",
            "Needs an account that has accepted Google's terms.",
        ),
        Entry(
            "roneneldan/TinyStories-33M",
            "TinyStories 33M",
            68_514_048,
            290,
            "MIT",
            "The paper's story model; no safetensors of its own on some revisions.",
        ),
    )
}


def model_path(name: str) -> str:
    """The folder of an embedded model; anything else (a Hub id or a path) as it is."""
    entry = CATALOGUE.get(name)
    return str(ASSETS / "models" / name) if entry and entry.embedded else name
