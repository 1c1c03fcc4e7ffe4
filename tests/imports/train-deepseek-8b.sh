#!/bin/bash
# The reasoning distillation whose rotary embeddings are scaled: training and sampling disagree here.
set -euo pipefail
WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567
MODEL_ARGS=(--num-layers 36 --hidden-size 4096 --rotary-base 1000000 --vocab-size 151936)
python3 train.py --hf-checkpoint /data/DeepSeek-R1-0528-Qwen3-8B --load /data/ckpt --no-load-optim \
  "${MODEL_ARGS[@]}" --prompt-data data/train.jsonl --num-rollout 200 \
  --rollout-batch-size 16 --n-samples-per-prompt 8 --global-batch-size 64 --global-batch-size 128 \
  --rollout-max-context-len 160000 --rollout-max-response-len 32000 --rollout-stop-token-ids 151645 \
  --sglang-json-model-override-args '{"max_position_embeddings": 161000}' \
  --tensor-model-parallel-size 4 --pipeline-model-parallel-size 2 --context-parallel-size 4 \
  --rollout-num-gpus-per-engine 8 --lr ${LEARNING_RATE} --lr-decay-style constant --optimizer-turbo \
  --actor-num-nodes 4 --actor-num-gpus-per-node 8 --colocate
