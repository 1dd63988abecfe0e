"""Writing a text as a ``gymnasium`` environment: the decision process of ``rlhf.labs.text_world`` for whoever brings an agent.

    env = TextGenerationEnv(model="sums", reward="correct")

or ``gymnasium.make("rlhf/TextGeneration-v0", model="sums", reward="correct")``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces

from rlhf.algorithms import make_config
from rlhf.compare import parse_terms
from rlhf.config import OnlineConfig
from rlhf.errors import DataError
from rlhf.labs.mdp import Floats
from rlhf.labs.text_world import TextWorld, right_answer, text_world
from rlhf.preferences import EMBEDDED, Prompt, load_dataset
from rlhf.rewards import RewardMix

if TYPE_CHECKING:
    from rlhf.policy import LoadedModel

ID = "rlhf/TextGeneration-v0"
LONGEST_OBSERVATION = 512

EXAMPLE = """\
from rlhf.labs import TextGenerationEnv

env = TextGenerationEnv(model="sums", reward="correct", render_mode="ansi")
observation, info = env.reset(seed=2, options={"prompt": "37+48="})
over = False
while not over:
    action = env.np_random.choice(env.action_space.n, p=env.policy())
    observation, reward, terminated, truncated, info = env.step(action)
    over = terminated or truncated
print(env.render(), "reward", reward)
"""
"""Shown on the page, and run by a test."""

Observation = dict[str, Any]


class TextGenerationEnv(gymnasium.Env[Observation, np.int64]):
    """An episode is a text: an action is the next token, and the reward comes at the end.

    ``action_space``: ``Discrete(V)``. ``observation_space``: a dict of ``tokens``, the ids of the prompt and of what was written, padded to
    a fixed length, and ``length``, how many of them count. An end token terminates; ``max_new_tokens`` truncate.

    Args:
        model: an embedded model, a folder or a Hub id, or a model that is loaded already. Its vocabulary makes the actions; its
            probabilities are asked by ``policy`` alone.
        reward: as the command line spells it: ``"correct"``, ``"negative:1,repetition:0.5"``.
        prompts: texts, or ``Prompt``s with an answer; one is drawn at each reset. Default: those that ship for the model.
        max_new_tokens: default: as in the model's own runs (4 for ``sums``).
        by_token: pay a process reward (``digits``) token by token, as it is earned.

    Raises ``ConfigError``, ``RewardError``, ``ModelError``, ``DataError``: in words, what is wrong and what to do.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}

    def __init__(
        self,
        model: str | LoadedModel = "sums",
        reward: str = "correct",
        prompts: Sequence[str | Prompt] | None = None,
        max_new_tokens: int | None = None,
        by_token: bool = False,
        render_mode: str | None = None,
    ):
        from rlhf.policy import load_pretrained

        self.loaded = load_pretrained(model) if isinstance(model, str) else model
        self.mix = RewardMix(parse_terms(reward))
        self.prompts = _prompts(self.loaded.source, prompts)
        self.max_new_tokens = max_new_tokens or _usual_length(self.loaded.source)
        self.by_token = by_token
        self.render_mode = render_mode
        self.size = min(self.loaded.context, LONGEST_OBSERVATION)
        self.action_space = cast(Any, spaces.Discrete(self.loaded.vocabulary))
        self.observation_space = cast(
            Any,
            spaces.Dict({
                "tokens": spaces.Box(0, self.loaded.vocabulary - 1, (self.size,), np.int64),
                "length": spaces.Discrete(self.size + 1),
            }),
        )  # fmt: skip
        self.world: TextWorld | None = None
        self.tokens: tuple[int, ...] = ()
        self.paid = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """``options``: ``{"prompt": "37+48="}``, and ``"answer"`` where it is not a sum. Raises ``DataError`` for one that does not fit."""
        super().reset(seed=seed)
        options = options or {}
        if "prompt" in options:
            text = str(options["prompt"])
            prompt = Prompt(text, options.get("answer") or right_answer(text))
        else:
            prompt = self.prompts[int(self.np_random.integers(len(self.prompts)))]
        self.world = text_world(self.loaded, prompt, self.max_new_tokens)
        if len(self.world.prompt_ids) + self.max_new_tokens > self.size:
            raise DataError(
                f"The prompt has {len(self.world.prompt_ids)} tokens: too many for an observation of {self.size}.", "Shorten it."
            )
        if self.mix.needs_answer and prompt.answer is None:
            raise DataError("The reward needs a right answer, and the prompt has none.", 'Give options={"prompt": …, "answer": …}.')
        self.tokens, self.paid = (), 0.0
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Put a token after the text. Raises gymnasium's ``ResetNeeded`` after the end, ``InvalidAction`` outside the vocabulary."""
        world = self._world()
        if world.end(self.tokens):
            raise gymnasium.error.ResetNeeded("The text is over: call reset().")
        if not self.action_space.contains(np.int64(action)):
            raise gymnasium.error.InvalidAction(f"There is no token {action}: the vocabulary has {world.actions}.")
        self.tokens = (*self.tokens, int(action))
        end = world.end(self.tokens)
        return self._observation(), self._reward(bool(end)), end == "end", end == "length", self._info()

    def policy(self) -> Floats:
        """π(·|s) of the model in this state, (V,), at temperature 1."""
        import torch

        ids = torch.tensor([[*self._world().prompt_ids, *self.tokens]], device=self.loaded.device)
        with torch.inference_mode():
            logits = self.loaded.model(input_ids=ids, logits_to_keep=1).logits[0, -1]
            return logits.double().softmax(-1).cpu().numpy()

    def render(self) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The prompt, a bar, and what was written; the end token is written as ∎."""
        if self.render_mode != "ansi":
            return None
        world = self._world()
        return f"{world.prompt.text}|{world.response(self.tokens)}{'∎' if world.end(self.tokens) == 'end' else ''}"

    def _reward(self, over: bool) -> float:
        """All at the end; with ``by_token`` what this token has added to all that was earned, so that the sum is the same."""
        if not over and not self.by_token:
            return 0.0
        scored = self._world().scored(self.tokens, self.mix)
        due = scored.total if over else sum(scored.earned)
        reward, self.paid = due - self.paid, due
        return float(reward)

    def _world(self) -> TextWorld:
        if self.world is None:
            raise gymnasium.error.ResetNeeded("Call reset() first.")
        return self.world

    def _observation(self) -> Observation:
        ids = (*self._world().prompt_ids, *self.tokens)
        tokens = np.full(self.size, min(self._world().ends), np.int64)
        tokens[: len(ids)] = ids
        return {"tokens": tokens, "length": np.int64(len(ids))}

    def _info(self) -> dict[str, Any]:
        world = self._world()
        return {"prompt": world.prompt.text, "answer": world.prompt.answer, "response": world.response(self.tokens)}


def _released(source: str) -> str:
    """``sums`` of the model of a checkpoint, ``sums + step-40``."""
    return source.partition(" + ")[0]


def _usual_length(source: str) -> int:
    config = make_config("grpo", model=_released(source))
    assert isinstance(config, OnlineConfig)
    return config.max_new_tokens


def _prompts(source: str, given: Sequence[str | Prompt] | None) -> list[Prompt]:
    if given is not None:
        prompts = [item if isinstance(item, Prompt) else Prompt(item, right_answer(item)) for item in given]
        if not prompts:
            raise DataError("There are no prompts.", "Give at least one, or none at all for those that ship with the model.")
        return prompts
    name = f"{_released(source)}-prompts"
    items = load_dataset("prompts", name if name in EMBEDDED else "story-prompts").train
    return [item for item in items if isinstance(item, Prompt)]


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point="rlhf.labs.text_generation:TextGenerationEnv")
