"""Writing a text as a Markov decision process: states, ends, rewards, returns, and a critic's values.

    s_t = (prompt, y_0 … y_(t−1)),   a_t = y_t ~ π(·|s_t),   s_(t+1) = s_t with a_t put after it, with certainty.

The text ends with an end token or at the length limit. A reward function pays at the end, r_(T−1) = r(x, y), or (a process reward) at the
tokens that earned it. What comes after a token is its return (Sutton & Barto 2018, eq. 3.9, http://incompleteideas.net/book/the-book-2nd.html):

    G_t = Σ_(l≥0) γ^l·r_(t+l) = r_t + γ·G_(t+1).

The view of generation as an episode is that of Ouyang et al. 2022, §3.5 (https://arxiv.org/abs/2203.02155), and of rlhf/algorithms/ppo.py.
torch is imported where a model computes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from rlhf.errors import DataError, ModelError
from rlhf.labs.mdp import Floats
from rlhf.preferences import Prompt
from rlhf.rewards import Context, RewardMix, Scored

if TYPE_CHECKING:
    from rlhf.policy import LoadedModel

VALUE_HEAD = "value_head.safetensors"
_SUM = re.compile(r"(\d{1,9})\+(\d{1,9})=")

End = Literal["", "end", "length"]
"""Why a text is over: an end token, the length limit; "": it is not."""


def returns(rewards: ArrayLike, gamma: float) -> Floats:
    """G_t of rewards (T,), (T,): from the last token back, G_t = r_t + γ·G_(t+1)."""
    rewards = np.asarray(rewards, np.float64)
    found = np.zeros_like(rewards)
    after = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        after = found[t] = rewards[t] + gamma * after
    return found


def right_answer(prompt: str) -> str | None:
    """The answer to a sum, as the model ``sums`` writes it: ``37+48=`` → ``085``. None where the prompt is no sum."""
    match = _SUM.fullmatch(prompt.strip())
    return f"{int(match[1]) + int(match[2]):03d}" if match else None


@dataclass(frozen=True)
class TextWorld:
    """The decision process of one prompt. ``ends``: the tokens that end a text; ``longest``: tokens after which it is cut."""

    loaded: LoadedModel
    prompt: Prompt
    prompt_ids: tuple[int, ...]
    ends: frozenset[int]
    longest: int

    @property
    def actions(self) -> int:
        """Size of the vocabulary."""
        return self.loaded.vocabulary

    def end(self, tokens: Sequence[int]) -> End:
        """Whether the text of these tokens is over, and why."""
        if tokens and tokens[-1] in self.ends:
            return "end"
        return "length" if len(tokens) >= self.longest else ""

    def possible(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """As many of the tokens, from the start, as the process can have: known to the model, and none after its end."""
        for t, token in enumerate(tokens):
            if self.end(tokens[:t]) or not 0 <= token < self.actions:
                return tuple(tokens[:t])
        return tuple(tokens)

    def response(self, tokens: Sequence[int]) -> str:
        """The text of the tokens, without the end token."""
        body = [*tokens[:-1]] if self.end(tokens) == "end" else [*tokens]
        return str(self.loaded.tokenizer.decode(body, skip_special_tokens=True))

    def scored(self, tokens: Sequence[int], mix: RewardMix) -> Scored:
        """What the text is worth, and what each token has earned of it where the reward says so.

        Raises ``RewardError``, and ``DataError`` where the reward compares with a right answer and there is none.
        """
        from rlhf.rollout import token_strings

        if mix.needs_answer and self.prompt.answer is None:
            do = "Write a sum such as 37+48=, or choose another reward."
            raise DataError("This reward compares with the right answer, and the prompt has none.", do)
        strings = tuple(token_strings(self.loaded.tokenizer, list(tokens))) if mix.by_token else ()
        finished = self.end(tokens) == "end"
        return mix([Context(self.prompt.text, self.response(tokens), self.prompt.answer, len(tokens), finished, strings)])[0]

    def rewards(self, tokens: Sequence[int], mix: RewardMix, by_token: bool = False) -> list[float]:
        """r_t of a text that is over, (T,). ``by_token``: a process reward pays where it was earned; else all comes at the last token.

        Raises as ``scored``.
        """
        if not tokens:
            return []
        scored = self.scored(tokens, mix)
        rewards = [*scored.earned] if by_token and scored.earned else [0.0] * len(tokens)
        rewards[-1] += scored.at_end if by_token else scored.total
        return rewards


def text_world(loaded: LoadedModel, prompt: Prompt, longest: int) -> TextWorld:
    """Raises ``DataError`` for a prompt that is empty or leaves no room for ``longest`` tokens in the model's context."""
    from rlhf.rollout import encode_prompts, end_ids

    ids = encode_prompts(loaded.tokenizer, [prompt.text], loaded.context, longest)[0]
    return TextWorld(loaded, prompt, tuple(ids), frozenset(end_ids(loaded.model, loaded.tokenizer)), longest)


def state_values(world: TextWorld, tokens: Sequence[int], loaded: LoadedModel, checkpoint: Path) -> Floats:
    """V(s_0) … V(s_T) of the critic that a run saved in ``checkpoint``, (T + 1,); 0 where the text is over.

    ``loaded``: the model of that checkpoint, on whose last hidden state the critic is a linear head (rlhf/algorithms/ppo.py).
    Raises ``ModelError`` where the checkpoint has no critic, or one of another model.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from rlhf.forward import response_parts, states_of
    from rlhf.types import Sequences

    try:
        head = load_file(checkpoint / VALUE_HEAD)
        weight, bias = head["weight"].to(loaded.device), head["bias"].to(loaded.device)
    except (OSError, SafetensorError, KeyError):
        raise ModelError(f"The checkpoint {checkpoint.name} holds no critic.", "Choose a PPO run that trained one.") from None
    if weight.shape != (1, loaded.model.config.hidden_size):
        raise ModelError(f"The critic in {checkpoint.name} belongs to another model.", "Choose another run.")
    over = bool(world.end(tokens))
    read = [*tokens] if over else [*tokens, min(world.ends)]  # the state after the last token is asked by a token that follows it
    prompt, response = (torch.tensor([list(ids)], device=loaded.device) for ids in (world.prompt_ids, read))
    with torch.inference_mode():
        sequences = Sequences(prompt, torch.ones_like(prompt, dtype=torch.bool), response, torch.ones_like(response, dtype=torch.bool))
        hidden = states_of(response_parts(loaded.model, sequences, states=True))[0].float()
        values = (hidden @ weight.float().T + bias.float())[:, 0].double().cpu().numpy()
    return np.append(values, 0.0) if over else values
