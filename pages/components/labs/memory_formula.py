"""Lab 8: a part of the memory as a formula, with the numbers of the setting put in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from pages.components import latex
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.memory_setting import LAB, Now
from pages.components.numbers import megabytes
from rlhf import memory
from rlhf.config import Config
from rlhf.labs.memory import config_of
from rlhf.memory import PARTS, Moment


def draw(method: str, now: Now, found: Sequence[Moment], titles: Mapping[str, str]) -> None:
    """A picker of the parts that this method has, and the formula of the one that is picked."""
    sizes = {part: max(found, key=lambda moment, part=part: moment.parts.get(part, 0)) for part in PARTS}
    there = {part: f"{titles[part]} · {megabytes(sizes[part].parts[part])}" for part in PARTS if sizes[part].parts.get(part)}
    part = setting.choice(LAB, "term", _("A part, with its numbers"), there)
    config = config_of(method, now.setting)
    latex.block(*lines(part, sizes[part], config, now))
    st.caption(note(part, sizes[part], config, now))


def lines(part: str, moment: Moment, config: Config, now: Now) -> list[str]:
    """LaTeX: the formula of a part, the numbers put in, and its bytes."""
    model, numbers = now.model, memory.numbers_of(config, now.device)
    size = moment.parts[part]
    end = rf"= \mathbf{{{in_latex(size)}}}"
    if part == "cache":
        shape = memory.shape_of(config, now.setting.prompt, now.setting.answer)
        put = rf"{model.layers}\cdot{model.kv_width}\cdot{numbers.bytes}\cdot({shape.sequences}\cdot{shape.answer}"
        prompts = rf"+{now.setting.prompts}\cdot{shape.prompt})"
        return [r"\text{KV cache} = 2\cdot L\cdot W\cdot b\cdot(N\cdot T+B\cdot T_x)", rf"= 2\cdot{put}{prompts}", end]
    if part == "logits":
        return [*_logits(moment, config, now), end]
    if part == "activations":
        return [*_activations(moment, config, now), end]
    if part == "copies":
        return [r"\text{copies} = L\cdot P_L\cdot b", rf"= {model.layers}\cdot{model.layer_parameters}\cdot{numbers.bytes}", end]
    if part in ("gradients", "optimizer"):
        return [*_learning(part, config, now), end]
    return [*_network(part, size, config, now), end]


def _network(part: str, size: int, config: Config, now: Now) -> list[str]:
    """P·b, with an adapter where one stands beside."""
    model, numbers, tex = now.model, memory.numbers_of(config, now.device), _exact
    if part == "critic" and not now.textbook:
        return [r"\text{critic} = (D+1)\cdot4", rf"= ({model.hidden}+1)\cdot4"]
    scorer = part in ("critic", "reward_model") or config.algorithm == "reward_model"
    whole, b = model.scorer_parameters if scorer else model.parameters, numbers.bytes
    if part == "reward_model" and not now.textbook:
        b = round(size / whole)
    if numbers.rank and part in ("weights", "critic"):
        adapter = memory.trained(model, whole, numbers)
        return [r"\text{weights} = P\cdot b+P_\mathrm{LoRA}\cdot4", rf"= {tex(whole)}\cdot{b}+{tex(adapter)}\cdot4"]
    return [r"\text{weights} = P\cdot b", rf"= {tex(whole)}\cdot{b}"]


def _learning(part: str, config: Config, now: Now) -> list[str]:
    """Gradients, or AdamW's two moments, of all that learns."""
    model, numbers, tex = now.model, memory.numbers_of(config, now.device), _exact
    whole = model.scorer_parameters if config.algorithm == "reward_model" else model.parameters
    letter = r"P_\mathrm{LoRA}" if numbers.rank else "P"
    terms, put = [letter], [tex(memory.trained(model, whole, numbers))]
    if now.textbook and memory.has_critic(config):
        terms.append(r"P_\text{critic}")
        put.append(tex(memory.trained(model, model.scorer_parameters, numbers)))
    both, values = "+".join(terms), "+".join(put)
    if len(terms) > 1:
        both, values = f"({both})", f"({values})"
    times, name = (r"2\cdot ", "AdamW") if part == "optimizer" else ("", _("gradients"))
    return [rf"\text{{{name}}} = {times}{both}\cdot b", rf"= {times}{values}\cdot{numbers.adapter}"]


def _logits(moment: Moment, config: Config, now: Now) -> list[str]:
    """A few tensors of places × vocabulary."""
    shape = memory.shape_of(config, now.setting.prompt, now.setting.answer)
    letter, places = ("N", shape.sequences) if moment.name == "sampling" else ("K", shape.predicted)
    times = 2 if moment.name == "reference" else memory.LOGITS
    return [rf"\text{{logits}} = {times}\cdot {letter}\cdot V\cdot4", rf"= {times}\cdot{places}\cdot{now.model.vocabulary}\cdot4"]


def _activations(moment: Moment, config: Config, now: Now) -> list[str]:
    """By what keeps them, a layer; the rest is after the last layer."""
    model, numbers = now.model, memory.numbers_of(config, now.device)
    shape = memory.shape_of(config, now.setting.prompt, now.setting.answer)
    layer = memory.layer_activations(model, shape, numbers)
    names = {"norms": _("norms"), "attention": _("attention"), "mlp": "MLP", "adapter": "LoRA"}
    kept = {name: size for name, size in layer.items() if size}
    both = now.textbook and memory.has_critic(config)
    rest = moment.parts["activations"] - (1 + both) * model.layers * sum(layer.values())
    words = "+".join(rf"\text{{{names[name]}}}" for name in kept)
    put = "+".join(in_latex(size) for size in kept.values())
    times, networks = (r"2\cdot ", 2) if both else ("", 1)
    first = rf"\text{{{_('activations')}}} = {times}L\cdot({words})+\text{{{_('after the last layer')}}}"
    return [first, rf"= {times if networks == 2 else ''}{model.layers}\cdot({put})+{in_latex(rest)}"]


def _exact(count: int) -> str:
    """A whole number with all its digits."""
    return f"{count:,}".replace(",", "{,}")


def in_latex(size: int) -> str:
    """Bytes with their unit."""
    value, _space, unit = megabytes(size).partition(" ")
    return rf"{value.replace(',', '{,}')}\,\text{{{unit}}}"


def note(part: str, moment: Moment, config: Config, now: Now) -> str:
    """The letters, and where a number comes from that is not plain."""
    shape = memory.shape_of(config, now.setting.prompt, now.setting.answer)
    if part == "cache":
        return _(
            "L layers, W width of a token's keys (heads of keys and values × width of a head), b bytes a number, twice for keys and "
            "values; N answers at their full length T, and each of the B prompts (T_x tokens) once for its whole group."
        )
    if part == "logits" and moment.name == "sampling":
        return _("V vocabulary; one place for each of the N answers, as logits, probabilities and their running sum.")
    if part == "logits":
        words = _(
            "K = {rows} answers × {answer} tokens, the places that are predicted in one pass; V vocabulary. As the backward pass begins "
            "there are three such tensors: the log-softmax, its gradient, and the gradient of the logits. Always in float32."
        )
        return words.format(rows=shape.rows, answer=shape.answer)
    if part == "activations":
        numbers = memory.numbers_of(config, now.device)
        words = _(
            "What one pass keeps for its backward pass: M = {prompts} × {prompt} + {rows} × {after} = {read} tokens are read. {shared} "
            "Norms keep what goes in and comes out, the MLP its gate, its product and their parts, attention queries, keys, values and "
            "what comes out."
        )
        shared = _("A prompt is read once for its answers.") if shape.shared else _("Each answer reads its own prompt.")
        told = words.format(
            prompts=shape.prompts_read, prompt=shape.prompt, rows=shape.rows, after=shape.after, read=shape.read, shared=shared
        )
        lifted = _("LoRA in bf16 saves no activations: the adapters are float32, and each of the seven a layer keeps its input in float32.")
        return f"{told} {lifted}" if numbers.lifted else told
    if part == "copies":
        return _("While it samples, this app copies the layers of a small model into joined matrices: fewer and larger products.")
    if part == "critic" and not now.textbook:
        return _("D hidden width: a linear output on the policy's own last state. The textbook's critic is a network of its own.")
    if part == "optimizer":
        return _(
            "The running means of the gradient and of its square, of every weight that learns. They are there from the first update on."
        )
    if part == "gradients":
        return _("In a bar where an update adds up several passes: the gradients of the earlier ones are there while the next one runs.")
    return _("P weights, b bytes of a number; an adapter is kept in float32.")
