#!/usr/bin/env bash
set -euo pipefail
# A dense model on one node; nothing is wrong with this script.
GROUP=(--rollout-batch-size 8 --n-samples-per-prompt 16)
GROUP+=(--num-steps-per-rollout 2)
exec python3 train.py \
  --hf-checkpoint Qwen/Qwen3-4B-Thinking-2507 \
  --prompt-data data/train.jsonl --rollout-shuffle \
  --rm-type deepscaler \
  "${GROUP[@]}" --num-rollout 50 \
  --rollout-max-prompt-len 4096 --rollout-max-response-len=8192 --rollout-temperature 0.8 \
  --advantage-estimator gspo --eps-clip 3e-4 --eps-clip-high 4e-4 --disable-grpo-std-normalization \
  --use-kl-loss --kl-loss-coef 0.001 --kl-loss-type k2 --entropy-coef 0 \
  --optimizer adam --lr 1e-6 --adam-beta1 0.9 --adam-beta2 0.95 --weight-decay 0.05 \
  --lr-decay-style cosine --min-lr 1e-7 --lr-warmup-iters 5 \
  --tensor-model-parallel-size 2 --sequence-parallel --context-parallel-size 2 \
  --recompute-granularity selective --no-save-optim --save-interval 10 \
  --rollout-num-gpus-per-engine 2 --sglang-mem-fraction-static 0.6 \
  --dynamic-sampling-filter-path filters.nonzero_std --over-sampling-batch-size 12 \
  --actor-num-nodes 1 --actor-num-gpus-per-node 8 --colocate
