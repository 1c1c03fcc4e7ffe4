"""Two lessons that make a model with random weights worth training.

Such a model earns no reward, so that GRPO would have nothing to choose from. First it recites the links of a prompt
until it can look one up; this ability appears suddenly, after about 100 updates with Muon on the hidden matrices (AdamW
alone took several times as many). Then it imitates answers of mixed quality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from ltrl.errors import Code, fail

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

    from ltrl_backends.local_engine.options import WarmStart

__all__ = ["Report", "Teacher", "teach"]

HIDDEN_LR = 0.02
"""Of Muon, for the hidden matrices."""
OTHER_LR = 3e-3
"""Of AdamW, for embeddings and norms."""
WARM_UP = 20
"""Updates of linear warm-up in the first lesson."""
MASTERED = 5
"""Updates in a row with the demanded accuracy."""
Report = Callable[[str], None]


class _Piece(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def is_determined(self) -> bool: ...


class _Demonstration(Protocol):
    @property
    def messages(self) -> Sequence[tuple[str, str]]: ...
    @property
    def pieces(self) -> Sequence[_Piece]: ...


class Teacher(Protocol):
    """What a data backend offers beyond samples if a model can be taught from it."""

    options: Any

    def words(self) -> Sequence[str]:
        """Every word that should be one token, with the space before it where it has one."""
        ...

    def lookup_demonstrations(self, seed: int) -> Iterator[_Demonstration]:
        """Endless demonstrations of looking up; their determined pieces tell whether it is learned."""
        ...

    def answer_demonstrations(self, seed: int) -> Iterator[_Demonstration]:
        """Endless demonstrations of answering."""
        ...


def teach(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, teacher: Teacher, options: WarmStart, report: Report
) -> None:
    """Gives the model both lessons; raises LtrlError when it has not learned to look up at the end of the first."""
    lesson = _Lesson(model, tokenizer)
    demonstrations = teacher.lookup_demonstrations(options.seed)
    mastered, accuracy = 0, 0.0
    for step in range(options.lookup_steps):
        accuracy = lesson.update(list(islice(demonstrations, options.batch_size)), min(1.0, (step + 1) / WARM_UP))
        mastered = mastered + 1 if accuracy >= options.lookup_accuracy else 0
        if mastered == MASTERED:
            break
        if step % 25 == 0:
            report(f"start model: looking up, update {step}, {accuracy:.0%} right")
    else:
        message = f"the start model did not learn to look up links in {options.lookup_steps} updates"
        hint = "try another `engine.warm_start.seed`, or more `lookup_steps`"
        raise fail(Code.TRAINING_COLLAPSED, f"{message} ({accuracy:.0%} right)", hint=hint)
    demonstrations = teacher.answer_demonstrations(options.seed)
    for step in range(options.answer_steps):
        lesson.update(list(islice(demonstrations, options.batch_size)), max(0.05, 1 - step / options.answer_steps))
        if step % 25 == 0:
            report(f"start model: answering, update {step} of {options.answer_steps}")


class _Lesson:
    """A model with the optimizers that teach it."""

    def __init__(self, model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
        import torch

        self.model, self.tokenizer = model.train(), tokenizer
        hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        chosen = {id(p) for p in hidden}
        others = [p for p in model.parameters() if id(p) not in chosen]
        self.optimizers = {
            torch.optim.Muon(hidden, lr=HIDDEN_LR, weight_decay=0.0): HIDDEN_LR,
            torch.optim.AdamW(others, lr=OTHER_LR, weight_decay=0.0, betas=(0.9, 0.95)): OTHER_LR,
        }

    def update(self, demonstrations: list[_Demonstration], lr_factor: float) -> float:
        """One update; returns the share of determined tokens that were right before it, NaN without any."""
        import torch

        ids, mask, is_response, is_determined = self._batch(demonstrations)
        first = int(is_response.any(0).float().argmax())
        logits = self.model(input_ids=ids, attention_mask=mask, logits_to_keep=ids.shape[1] - first + 1).logits[:, :-1]
        targets, is_response, is_determined = ids[:, first:], is_response[:, first:], is_determined[:, first:]
        loss = torch.nn.functional.cross_entropy(logits[is_response], targets[is_response])
        for optimizer, lr in self.optimizers.items():
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = lr * lr_factor
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        return float((logits.argmax(-1) == targets)[is_determined].float().mean())

    def _batch(
        self, demonstrations: list[_Demonstration]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Token ids, attention mask, response mask and determined mask, each of shape (batch, longest sequence)."""
        import torch

        rows = [self._row(d) for d in demonstrations]
        longest = max(len(row) for row in rows)
        padding = (int(self.tokenizer.pad_token_id), 0, 0, 0)
        padded = torch.tensor([row + [padding] * (longest - len(row)) for row in rows])
        ids, mask, response, determined = padded.unbind(-1)
        return ids, mask, response.bool(), determined.bool()

    def _row(self, demonstration: _Demonstration) -> list[tuple[int, int, int, int]]:
        """(token id, 1, is response, is determined) of each token of the prompt, the response and its end."""
        messages = [{"role": role, "content": content} for role, content in demonstration.messages]
        prompt = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        # the whole response is tokenized at once: pieces on their own could be cut into other tokens
        determined = [piece.is_determined for piece in demonstration.pieces for _ in piece.text]
        response = self.tokenizer("".join(p.text for p in demonstration.pieces), return_offsets_mapping=True)
        return [
            *((token, 1, 0, 0) for token in self.tokenizer(prompt)["input_ids"]),
            *(
                (token, 1, 1, int(determined[start]))
                for token, (start, _) in zip(response["input_ids"], response["offset_mapping"], strict=True)
            ),
            (int(self.tokenizer.eos_token_id), 1, 1, 0),
        ]
