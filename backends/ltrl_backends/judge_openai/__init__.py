"""Judge `openai`: a language model behind any OpenAI-compatible endpoint."""

from ltrl_backends.judge_openai.judge import OpenAIJudge

__all__ = ["OpenAIJudge"]
