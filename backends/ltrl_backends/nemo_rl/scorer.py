"""Scoring as an environment of NeMo-RL does it, without Ray. Imported in the job only.

Responses arrive with their special tokens (`hooks.keep_special_tokens`), so that they are parsed as every engine parses
them. A training step's rewards have two columns, outcome and rubric; the hook turns groups of them into rewards. A
validation step's have one, the outcome. -1 stands for an outcome that no judge told: NeMo-RL knows only numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ltrl import outage
from ltrl.backend import load
from ltrl.scoring import Score, ScoreRequest, parse_response
from ltrl.served import connect

__all__ = ["UNJUDGED", "Scorer", "Step"]

UNJUDGED = -1.0


class Step(NamedTuple):
    """NeMo-RL's EnvironmentReturn, field by field."""

    observations: list[dict[str, str]]
    metadata: list[dict[str, Any] | None]
    next_stop_strings: list[None]
    rewards: torch.Tensor
    terminateds: torch.Tensor
    answers: list[None]


class Scorer:
    """Scores one batch of responses as an environment of NeMo-RL does."""

    def __init__(self, config: dict[str, Any]) -> None:
        section = config["reward"]
        options = load("reward", section["backend"]).Options.model_validate(section, strict=False)
        self.reward = connect(options)
        self.outage = options.outage
        self.chat_format = str(config["chat_format"])
        self.is_training = config["role"] == "train"

    def step(self, logs: list[list[dict[str, str]]], infos: list[dict[str, Any]]) -> Step:
        """Rewards of shape [B, 2] in training, [B] in validation."""
        requests = [self._request(log, info) for log, info in zip(logs, infos, strict=True)]
        scores = outage.score(self.reward, requests, self.outage)
        outcomes = [UNJUDGED if s.outcome is None else float(s.outcome) for s in scores]
        rewards = torch.tensor(outcomes, dtype=torch.float32)
        if self.is_training:
            rubrics = torch.tensor([float(s.rubric) for s in scores], dtype=torch.float32)
            rewards = torch.stack([rewards, rubrics], dim=1)
        size = len(scores)
        return Step(
            # Never empty: an empty text becomes a float tensor on the asynchronous path.
            observations=[{"role": "environment", "content": "ok"}] * size,
            metadata=[{**info, "score": _details(score)} for info, score in zip(infos, scores, strict=True)],
            next_stop_strings=[None] * size,
            rewards=rewards,
            # NeMo-RL keeps the metadata of episodes that go on only; with one turn at most they end all the same.
            terminateds=torch.zeros(size),
            answers=[None] * size,
        )

    def _request(self, log: list[dict[str, str]], info: dict[str, Any]) -> ScoreRequest:
        last = log[-1]
        text = last["content"] if last["role"] == "assistant" else ""
        # No stop token: cut at the limit, as far as this place can tell.
        response = parse_response(text, chat_format=self.chat_format, unstopped="truncated")
        return ScoreRequest(
            group=str(info["uid"]),
            question=str(info["question"]),
            label=str(info["label"]),
            rubrics=tuple(info["rubrics"]),
            response=response,
            dataset_name=str(info["dataset_name"]),
            aliases={entity: tuple(names) for entity, names in info.get("aliases", {}).items()},
        )


def _details(score: Score) -> dict[str, Any]:
    found = {"outcome": score.outcome, "rubric": score.rubric, "zeroed": score.zeroed, "parts": dict(score.parts)}
    found |= {"said": score.said} if score.said else {}
    return found if score.is_judged or score.verdict is None else {**found, "unjudged": score.verdict.reason}
