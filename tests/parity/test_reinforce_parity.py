"""RLOO against TRL 1.16, values and gradients: its loss unbound in float64, and one real step of its trainer with its advantages.

TRL's RLOO takes the response as one action and its ratio is that of the whole sequence; its KL is k1, summed, inside the reward. With one
update a batch its loss has the value −mean(A), ours −mean(A·log π): the gradients are the same. TRL 1.16 has no other REINFORCE, so the
rest is checked by hand and by exact enumeration (tests/unit/test_reinforce.py).
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import RLOOConfig, RLOOTrainer

from rlhf import advantages as adv
from rlhf import ops
from rlhf.algorithms.reinforce import Facts, estimate, reinforce_loss
from tests.parity.one_process import OneProcess

pytestmark = pytest.mark.parity
F64 = torch.float64
MASK = torch.arange(6)[None] < torch.tensor([6, 2, 4, 1, 5, 6])[:, None]
LETTERS = "abcdefghij="
GROUP = 4
BETA = 0.3


def rand(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64) * scale


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13, check_dtype=False)


def trl_rloo(logprobs, old, advantages, mask, low, high):
    """TRL's loss and metrics for given token log-probabilities."""
    metrics = defaultdict(list)
    stand_in = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logprobs, torch.zeros_like(logprobs), None),
        accelerator=OneProcess(),
        model=SimpleNamespace(training=True),
        epsilon_low=low,
        epsilon_high=high,
        aux_loss_enabled=False,
        _metrics={"train": metrics},
    )
    batch = {
        "prompt_ids": torch.zeros(len(mask), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(mask), 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": advantages,
        "old_logps": (old * mask).sum(1),
    }
    loss = RLOOTrainer._compute_loss(stand_in, None, batch)  # pyright: ignore[reportArgumentType]
    return loss, {key: values[-1] for key, values in metrics.items()}


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.1, 0.28)])
def test_rloo_loss_equals_trl(low, high):
    start, worth = rand(6, 6, seed=1) - 2, rand(6, seed=2)
    old = start + rand(6, 6, seed=3, scale=0.15)
    ours, theirs = (start.clone().requires_grad_() for _ in range(2))
    loss, stats = reinforce_loss(ours, old, worth, MASK, low, high, "sequence")
    expected, metrics = trl_rloo(theirs, old, worth, MASK, low, high)
    close(loss.detach(), expected.detach())
    close(*(torch.autograd.grad(value, leaf)[0] for value, leaf in ((loss, ours), (expected, theirs))))
    assert float(stats["clip_ratio/region_mean"]) == pytest.approx(metrics["clip_ratio/region_mean"], abs=1e-6)
    assert 0 < metrics["clip_ratio/region_mean"] < 1, "the case must reach the clipped region to say anything"


def test_with_one_update_the_plain_loss_has_trls_gradient():
    start, worth = rand(6, 6, seed=4) - 2, rand(6, seed=5)
    leaves = [start.clone().requires_grad_() for _ in range(4)]
    losses = [
        reinforce_loss(leaves[0], None, worth, MASK)[0],
        reinforce_loss(leaves[1], start, worth, MASK, importance_sampling_level="sequence")[0],
        reinforce_loss(leaves[2], start, worth, MASK, importance_sampling_level="token")[0],
        trl_rloo(leaves[3], start, worth, MASK, 0.2, 0.2)[0],
    ]
    gradients = [torch.autograd.grad(loss, leaf)[0] for loss, leaf in zip(losses, leaves, strict=True)]
    for mine in gradients[:3]:
        close(mine, gradients[3])
    close(gradients[3], -worth[:, None] * MASK / len(MASK))  # −A / N on each response token: a sum over tokens, a mean over responses
    close(losses[1].detach(), losses[3].detach())


@pytest.fixture(scope="module")
def trl_step(tmp_path_factory) -> dict[str, Any]:
    """One step of TRL's trainer on a small random Llama whose reference differs: batch, rewards, advantages, loss, gradients."""
    torch.manual_seed(0)
    vocabulary = {"<pad>": 0, "</s>": 1} | {letter: i + 2 for i, letter in enumerate(LETTERS)}
    characters = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    characters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=characters, pad_token="<pad>", eos_token="</s>", padding_side="left")
    config = LlamaConfig(
        vocab_size=len(LETTERS) + 2, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("rloo")
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    seen: dict[str, Any] = {"rewards": []}

    def reward(completions, **_):
        scores = [sum(ord(letter) % 7 for letter in text) / 10 for text in completions]
        seen["rewards"] += scores
        return scores

    class Watched(RLOOTrainer):
        def _generate_and_score_completions(self, inputs):
            out = super()._generate_and_score_completions(inputs)
            seen["scored"] = {key: value.clone() for key, value in out.items() if isinstance(value, torch.Tensor)}
            return out

        def _compute_loss(self, model, inputs):
            loss = super()._compute_loss(model, inputs)
            seen["batch"] = {key: value.clone() for key, value in inputs.items() if isinstance(value, torch.Tensor)}
            seen["loss"] = loss.detach().clone()
            seen["gradients"] = torch.autograd.grad(loss, list(self.accelerator.unwrap_model(model).parameters()), retain_graph=True)
            return loss

    arguments = RLOOConfig(
        output_dir=str(folder / "run"), use_cpu=True, bf16=False, per_device_train_batch_size=4 * GROUP, num_generations=GROUP,
        max_completion_length=6, max_steps=1, beta=BETA, learning_rate=0.0, save_strategy="no", report_to="none", disable_tqdm=True,
        seed=1,
    )  # fmt: skip
    prompts = Dataset.from_dict({"prompt": ["ab=", "cf=", "de=", "jj="]})
    model = LlamaForCausalLM.from_pretrained(folder / "model")
    trainer = Watched(model, reward_funcs=reward, args=arguments, train_dataset=prompts, processing_class=tokenizer)
    with torch.no_grad():
        for parameter in trainer.ref_model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    trainer.train()
    return {**seen, "model": trainer.accelerator.unwrap_model(trainer.model), "reference": trainer.ref_model}


def token_logprobs(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    width = batch["completion_ids"].shape[1]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    return ops.token_logprobs(model(input_ids=ids, attention_mask=attention).logits[:, -width - 1 : -1], batch["completion_ids"])


def test_rloo_advantages_with_the_kl_in_the_reward_are_trls(trl_step):
    scored, mask = trl_step["scored"], trl_step["scored"]["completion_mask"].bool()
    with torch.no_grad():
        logprobs, reference = (token_logprobs(trl_step[name], scored) for name in ("model", "reference"))
    rewards = adv.token_rewards(torch.tensor(trl_step["rewards"]), logprobs, reference, mask, BETA)
    facts = Facts(rewards, mask, GROUP)
    for returns in ("trajectory", "to_go"):
        worth = estimate(facts, returns, "leave_one_out")[2]
        torch.testing.assert_close(worth[:, 0], scored["advantages"], rtol=1e-4, atol=1e-5)  # of the first token both are the same
    without = adv.leave_one_out(torch.tensor(trl_step["rewards"]), GROUP)
    assert (without - scored["advantages"]).abs().max() > 0.01, "the KL must matter to say anything"


def test_a_step_of_rloo_has_every_gradient_of_trls(trl_step):
    batch, model = trl_step["batch"], trl_step["model"]
    mask = batch["completion_mask"].bool()
    logprobs = token_logprobs(model, batch)
    clipped, _ = reinforce_loss(logprobs, logprobs.detach(), batch["advantages"], mask, importance_sampling_level="sequence")
    torch.testing.assert_close(clipped.detach(), trl_step["loss"], rtol=1e-4, atol=1e-6)
    plain, _ = reinforce_loss(logprobs, None, batch["advantages"], mask)
    for loss in (clipped, plain):
        for mine, theirs in zip(torch.autograd.grad(loss, list(model.parameters()), retain_graph=True), trl_step["gradients"], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)
