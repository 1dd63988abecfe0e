"""The table that compares the methods, read off the code: the config classes, their fields, and what a config says of itself.

Nothing about a method is written here. ``properties`` asks a config: is its class one of those that sample while they train, has it a
``reward``, does it need a reference, does it train a critic, which data does its algorithm take, and which of its settings have an effect.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlhf import memory
from rlhf.algorithms import DATA, MAKES
from rlhf.config import Config, OfflineConfig, OnlineConfig, PairsConfig, extra_of, has_effect
from rlhf.estimate import sequences, work

SHARED = {name for kind in (Config, OnlineConfig, OfflineConfig, PairsConfig) for name in kind.model_fields}
ORDER = ("few", "regularisation", "sampling", "optimisation")
"""Groups of settings by which a method's own are put in order; those about data, model and records are left out."""


@dataclass(frozen=True)
class Properties:
    """``reward``: it asks for a reward at every step; ``online``: it samples from the policy that it trains; ``explores``: so that it
    meets answers that nobody gave it; ``data``: prompts, pairs or demonstrations; ``networks``: that the textbook gives it; passes of one
    response's tokens: ``sampled`` token by token, ``forward`` and ``backward``. ``sensitive``: (its own setting, what raising it does)."""

    makes: str
    data: str
    reward: bool
    critic: bool
    reference: bool
    online: bool
    explores: bool
    networks: int
    sampled: float
    forward: float
    backward: float
    sensitive: tuple[tuple[str, str], ...]


def properties(config: Config) -> Properties:
    """What a method is and needs, from its config."""
    online, reward = isinstance(config, OnlineConfig), "reward" in type(config).model_fields
    critic, count = memory.has_critic(config), sequences(config)
    # in forward passes of one token: of a text that is only read, and what one more sampled token adds
    read = work(config, prompt_tokens=1, answer_tokens=0) / count
    sampled = (work(config, prompt_tokens=0, answer_tokens=1) / count - read) / 3
    backward = float(config.epochs) if isinstance(config, OnlineConfig) else 1.0
    return Properties(
        makes=MAKES[config.algorithm],
        data=DATA[config.algorithm],
        reward=reward,
        critic=critic,
        reference=config.needs_reference,
        online=online,
        explores=online and getattr(config, "top_k", 0) != 1,
        networks=1 + reward + critic + config.needs_reference,
        sampled=sampled,
        forward=read - 2 * backward,
        backward=backward,
        sensitive=sensitive(config),
    )


def sensitive(config: Config, most: int = 4) -> tuple[tuple[str, str], ...]:
    """The settings that only this method has, that act beside its other settings, and of which the config says what raising them does."""
    own = []
    for name, field in type(config).model_fields.items():
        extra = extra_of(field)
        inherited = name in SHARED and name != "beta"
        if not inherited and extra.get("effect") and extra["group"] in ORDER and has_effect(field, dict(config)):
            own.append((ORDER.index(extra["group"]), name, extra["effect"]))
    return tuple((name, effect) for _group, name, effect in sorted(own, key=lambda row: row[0])[:most])
