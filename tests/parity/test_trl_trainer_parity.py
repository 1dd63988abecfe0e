"""One real step of TRL's GRPOTrainer on a small random Llama: from its batch our functions find its advantages, loss and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from rlhf import advantages, ops
from rlhf.algorithms.grpo import grpo_loss

pytestmark = pytest.mark.parity
LETTERS = "abcdefghij="
PAD, EOS = 0, 1
PROMPTS = 4
GROUP = 4
BETA = 0.05


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<pad>": PAD, "</s>": EOS} | {letter: i + 2 for i, letter in enumerate(LETTERS)}
    characters = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    characters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=characters, pad_token="<pad>", eos_token="</s>", padding_side="left")


@pytest.fixture(scope="module")
def trl_step(tokenizer, tmp_path_factory) -> dict[str, Any]:
    """The batch, rewards, loss, gradients and weights of one step, as TRL computed them."""
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
    LlamaForCausalLM(config).save_pretrained(folder / "model")  # TRL loads its reference from where the model came from
    tokenizer.save_pretrained(folder / "model")
    model = LlamaForCausalLM.from_pretrained(folder / "model")
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
        output_dir=str(folder / "run"),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=PROMPTS * GROUP,
        num_generations=GROUP,
        max_completion_length=6,
        max_steps=1,
        beta=BETA,
        loss_type="grpo",
        use_bias_correction_kl=False,  # the paper's eq. 4; TRL's correction changes the gradient and not the value
        scale_rewards="group",
        learning_rate=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        activation_checkpointing=False,
        seed=1,
    )
    prompts = Dataset.from_dict({"prompt": ["ab=", "c=", "deg=", "jjj="]})  # of different lengths: padded on the left
    trainer = Watched(model, reward_funcs=reward, args=arguments, train_dataset=prompts, processing_class=tokenizer)
    with torch.no_grad():  # the reference must differ from the policy, or its KL says nothing
        for parameter in trainer.ref_model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    trainer.train()
    seen["model"] = trainer.accelerator.unwrap_model(trainer.model)
    seen["kl"] = trainer.state.log_history[0]["kl"]
    return seen


def test_group_relative_advantages_are_trls(trl_step):
    rewards = torch.tensor(trl_step["rewards"], dtype=torch.float64)
    assert len(rewards) == PROMPTS * GROUP and rewards.view(-1, GROUP).std(1).min() > 0
    ours = advantages.group_relative(rewards, GROUP, "group")
    torch.testing.assert_close(ours.float(), trl_step["advantages"].float(), rtol=1e-4, atol=1e-5)


def test_grpo_loss_and_every_gradient_are_trls(trl_step):
    batch, model = trl_step["batch"], trl_step["model"]
    mask = batch["completion_mask"].bool()
    width = mask.shape[1]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    logits = model(input_ids=ids, attention_mask=attention).logits[:, -width - 1 : -1]
    logprobs = ops.token_logprobs(logits, batch["completion_ids"])
    reference = batch["ref_per_token_logps"]
    loss, _ = grpo_loss(logprobs, logprobs.detach(), reference, batch["advantages"], mask, BETA, 0.2, 0.2, "grpo")
    torch.testing.assert_close(loss.detach(), trl_step["loss"], rtol=1e-4, atol=1e-6)
    ours = torch.autograd.grad(loss, list(model.parameters()))
    for (name, theirs), mine in zip(trl_step["gradients"].items(), ours, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
    kl = ops.masked_mean(ops.kl_estimate(logprobs.detach(), reference, "k3"), mask)
    assert kl > 1e-4 and float(kl) == pytest.approx(trl_step["kl"], rel=1e-4)
