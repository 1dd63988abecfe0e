"""One real step of TRL's GRPOTrainer and of its DPOTrainer on a small random Llama.

GRPO, in float64: from TRL's batch, which it sampled, our functions find its advantages, loss and gradients, and our optimizer its weights.
DPO, in float32 as our engine trains: from the same pairs as text our whole step finds its weights.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

from rlhf import advantages, ops
from rlhf.algorithms import make_config
from rlhf.algorithms.dpo import DPO
from rlhf.algorithms.grpo import grpo_loss
from rlhf.events import Step
from rlhf.optimisation import Updater
from rlhf.policy import LoadedModel, Policy
from rlhf.preferences import Dataset as Items
from rlhf.preferences import PreferencePair
from rlhf.rollout import never

pytestmark = pytest.mark.parity
LETTERS = "abcdefghij="
PAD, EOS = 0, 1
PROMPTS = 4
GROUP = 4
BETA = 0.05
RATE = 1e-3  # AdamW's first step moves a weight by nearly this much whatever its gradient, so only weights that agree far below it agree
SETTINGS = {  # of both trainers
    "use_cpu": True,
    "bf16": False,
    "beta": BETA,
    "learning_rate": RATE,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "activation_checkpointing": False,
    "seed": 1,
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<pad>": PAD, "</s>": EOS} | {letter: i + 2 for i, letter in enumerate(LETTERS)}
    characters = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    characters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=characters, pad_token="<pad>", eos_token="</s>", padding_side="left")


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory) -> Path:
    """Where the model lies; TRL loads its reference from where the model came from."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(LETTERS) + 2,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
    )
    folder = tmp_path_factory.mktemp("trl")
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


def load(folder: Path, dtype: torch.dtype) -> Any:
    return LlamaForCausalLM.from_pretrained(folder / "model", dtype=dtype)


@torch.no_grad()
def disturb(reference: Any) -> None:
    """The reference must differ from the policy, or its KL says nothing. The same each time."""
    generator = torch.Generator().manual_seed(2)
    for parameter in reference.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def same_weights(ours: Any, theirs: Any, start: Any) -> None:
    for (name, mine), wanted, before in zip(ours.named_parameters(), theirs.parameters(), start.parameters(), strict=True):
        assert (wanted - before).abs().max() > 0.9 * RATE, f"TRL left {name} where it was"
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-3 * RATE, msg=lambda text, name=name: f"{name}: {text}")


# ---------------------------------------------------------------- GRPO


@pytest.fixture(scope="module")
def trl_step(tokenizer, folder) -> dict[str, Any]:
    """The batch, rewards, loss, gradients and weights of one step, as TRL computed them."""
    torch.manual_seed(0)
    model = load(folder, torch.float64)
    seen: dict[str, Any] = {"rewards": []}

    def reward(completions, **_):
        scores = [sum(ord(letter) % 7 for letter in text) / 10 for text in completions]
        seen["rewards"] += scores
        return scores

    class Watched(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            out = super()._generate_and_score_completions(inputs)
            seen["advantages"] = out["advantages"].clone()  # in the order of the rewards; the batch is shuffled afterwards
            return out

        def _compute_loss(self, model, inputs):
            loss = super()._compute_loss(model, inputs)
            seen["batch"] = {key: value.clone() for key, value in inputs.items() if isinstance(value, torch.Tensor)}
            seen["loss"] = loss.detach().clone()
            parameters = dict(self.accelerator.unwrap_model(model).named_parameters())
            seen["gradients"] = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()), retain_graph=True), strict=True))
            return loss

    arguments = GRPOConfig(
        output_dir=str(folder / "grpo"),
        per_device_train_batch_size=PROMPTS * GROUP,
        num_generations=GROUP,
        max_completion_length=6,
        loss_type="grpo",
        use_bias_correction_kl=False,  # the paper's eq. 4; TRL's correction changes the gradient and not the value
        scale_rewards="group",
        max_steps=1,
        **SETTINGS,
    )
    prompts = Dataset.from_dict({"prompt": ["ab=", "c=", "deg=", "jjj="]})  # of different lengths: padded on the left
    trainer = Watched(model, reward_funcs=reward, args=arguments, train_dataset=prompts, processing_class=tokenizer)
    disturb(trainer.ref_model)
    trainer.train()
    seen["start"], seen["end"] = load(folder, torch.float64), trainer.accelerator.unwrap_model(trainer.model)
    seen["kl"] = trainer.state.log_history[0]["kl"]
    return seen


def test_group_relative_advantages_are_trls(trl_step):
    rewards = torch.tensor(trl_step["rewards"], dtype=torch.float64)
    assert len(rewards) == PROMPTS * GROUP and rewards.view(-1, GROUP).std(1).min() > 0
    ours = advantages.group_relative(rewards, GROUP, "group")
    torch.testing.assert_close(ours.float(), trl_step["advantages"].float(), rtol=1e-4, atol=1e-5)


def grpo_of(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """Our loss on TRL's batch, its stats, and the log-probabilities."""
    mask = batch["completion_mask"].bool()
    width = mask.shape[1]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    logits = model(input_ids=ids, attention_mask=attention).logits[:, -width - 1 : -1]
    logprobs = ops.token_logprobs(logits, batch["completion_ids"])
    reference = batch["ref_per_token_logps"]
    loss, stats = grpo_loss(logprobs, logprobs.detach(), reference, batch["advantages"], mask, BETA, 0.2, 0.2, "grpo")
    return loss, stats, logprobs


def test_grpo_loss_and_every_gradient_are_trls(trl_step):
    batch, model = trl_step["batch"], trl_step["start"]
    loss, _, logprobs = grpo_of(model, batch)
    torch.testing.assert_close(loss.detach(), trl_step["loss"], rtol=1e-4, atol=1e-6, check_dtype=False)
    ours = torch.autograd.grad(loss, list(model.parameters()))
    for (name, theirs), mine in zip(trl_step["gradients"].items(), ours, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
    kl = ops.masked_mean(ops.kl_estimate(logprobs.detach(), batch["ref_per_token_logps"], "k3"), batch["completion_mask"].bool())
    assert kl > 1e-4 and float(kl) == pytest.approx(trl_step["kl"], rel=1e-4)


def test_grpo_steps_to_the_same_weights(trl_step):
    model = copy.deepcopy(trl_step["start"])
    config = make_config("grpo", learning_rate=RATE, microbatch_size=PROMPTS * GROUP)
    updater = Updater([{"params": list(model.parameters()), "lr": RATE}], config)
    updater.update(torch.arange(PROMPTS * GROUP), 1, lambda rows: grpo_of(model, trl_step["batch"])[:2])
    same_weights(model, trl_step["end"], trl_step["start"])


# ---------------------------------------------------------------- DPO

PAIRS = (  # prompts and answers of different lengths
    PreferencePair("ab=", "cd", "efg"),
    PreferencePair("c=", "j", "aab"),
    PreferencePair("deg=", "hhij", "b"),
    PreferencePair("jjj=", "e", "f"),
)


def test_dpo_steps_to_the_same_weights(tokenizer, folder):
    """TRL's collator, reference pass, loss, clipping, schedule and AdamW against our ``DPO.step``.

    Two steps on all pairs: in AdamW's first one the size of a gradient cancels, in the second it counts, and so does how much was clipped.
    """
    steps, norm = 2, 0.05
    arguments = DPOConfig(
        output_dir=str(folder / "dpo"), per_device_train_batch_size=len(PAIRS), max_steps=steps, max_grad_norm=norm, **SETTINGS
    )
    rows = [{"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in PAIRS]
    trainer = DPOTrainer(load(folder, torch.float32), args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    disturb(trainer.ref_model)
    trainer.train()

    config = make_config(
        "dpo", beta=BETA, learning_rate=RATE, tuning="full", pairs_per_step=len(PAIRS), append_eos=True, max_grad_norm=norm,
        steps=steps, learning_rate_schedule="linear",
    )  # fmt: skip
    model, cpu = load(folder, torch.float32), torch.device("cpu")
    policy = Policy(LoadedModel(model, tokenizer, "tiny", cpu, torch.float32, 0, 2, len(LETTERS) + 2, 32, 0, False), config)
    disturb(policy.frozen)
    ours = DPO(policy, config, Items(PAIRS, (), "pairs", "tiny"), never)
    for step in range(steps):
        *_, last = ours.step(step + 1)
        assert isinstance(last, Step)
        theirs = trainer.state.log_history[step]
        assert theirs["grad_norm"] > 2 * norm
        for name in ("loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "logps/chosen", "logps/rejected", "grad_norm"):
            assert last.metrics[name] == pytest.approx(theirs[name], rel=1e-3), f"{name} of step {step + 1}"
    same_weights(policy.model, trainer.accelerator.unwrap_model(trainer.model), load(folder, torch.float32))
