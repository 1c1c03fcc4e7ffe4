"""The stages of LongTraceRL's data construction: corpora, walks, questions, search agents, distractors, tokenizers."""
