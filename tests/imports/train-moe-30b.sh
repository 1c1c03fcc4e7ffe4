#!/bin/bash
# A launch script as one finds them: a mixture of experts on four nodes, with what goes wrong in such scripts.
pkill -9 sglang
sleep 3
ray stop --force
pkill -9 python

set -ex

export PYTHONBUFFERED=16
export CUDA_DEVICE_MAX_CONNECTIONS=1

NUM_NODES=${NUM_NODES:-4}
GPUS=8
TEAM="long-context"
BASE_DIR=/root/models

SCRIPT_DIR="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" &>/dev/null && pwd)"
source "${SCRIPT_DIR}/models/moe-30b.sh"

CKPT_ARGS=(
   --hf-checkpoint ${BASE_DIR}/Qwen3-30B-A3B-Thinking-2507
   --ref-load ${BASE_DIR}/Qwen3-30B-A3B-Thinking-2507_torch_dist
   --load ${BASE_DIR}/ckpt/
   --save ${BASE_DIR}/ckpt/
   --save-interval 20
   --keep-optim-recent 1
)

ROLLOUT_ARGS=(
   --prompt-data data/train.jsonl
   --input-key input_messages
   --label-key label
   --apply-chat-template
   --rollout-shuffle
   --num-rollout 200
   --rollout-batch-size 16
   --n-samples-per-prompt 8
   --rollout-max-context-len 160000
   --rollout-max-response-len 32000
   --rollout-temperature 1.0        # the paper's
   --rollout-stop-token-ids 151643 151645
   --global-batch-size 128
   --balance-data
)

EVAL_ARGS=(
   --eval-interval 20
   --eval-prompt-data aa-lcr data/aa_lcr.jsonl
   --n-samples-per-eval-prompt 4
   --eval-max-response-len 32000
   --eval-temperature 0.6
   --eval-top-p 0.95
   --eval-top-k 20
)

REWARD_ARGS=(
   --source-key source
   --source-config-path configs/sources.json
   --rubric-reward-ratio 0.3
   --normalize-rubric-reward
   --rubric-only-positive
   --rubric-use-content
)

PERF_ARGS=(
   --tensor-model-parallel-size 4
   --sequence-parallel
   --pipeline-model-parallel-size 2
   --context-parallel-size 4
   --expert-model-parallel-size 16
   --expert-tensor-parallel-size 1
   --recompute-granularity full
   --recompute-method uniform
   --recompute-num-layers 1
   --micro-batch-size 1
   --use-dynamic-batch-size
   --max-tokens-per-gpu 8192
)

GRPO_ARGS=(
   --advantage-estimator grpo
   --use-kl-loss
   --kl-loss-coef 0.00
   --kl-loss-type low_var_kl
   --kl-coef 0.00
   --entropy-coef 0.00
   --eps-clip 0.2
   --eps-clip-high 0.28
   --calculate-per-token-loss
   --use-tis
   --tis-clip-low 0.5
   --tis-clip 2.0
   --custom-tis-function-path plugins.tis.icepop_function
)

OPTIMIZER_ARGS=(
   --optimizer adam
   --lr 2e-6
   --lr-decay-style constant
   --lr-warmup-iters 0
   --weight-decay 0.1
   --adam-beta1 0.9
   --adam-beta2 0.98
)

WANDB_ARGS=(
   --use-wandb
   --wandb-project longtrace
   --wandb-team ${TEAM}
   --wandb-host https://wandb.example.org
   --wandb-group moe-30b
   --wandb-key ${WANDB_API_KEY}
)

SGLANG_ARGS=(
   --rollout-num-gpus-per-engine 8
   --sglang-mem-fraction-static 0.7
   --sglang-ep-size 8
   --sglang-server-concurrency 128
)

MISC_ARGS=(
   --attention-dropout 0.0
   --hidden-dropout 0.0
   --accumulate-allreduce-grads-in-fp32
   --attention-softmax-in-fp32
   --attention-backend flash
   --no-check-for-nan-in-loss-and-grad
   --moe-token-dispatcher-type alltoall
   --moe-permute-fusion
   --moe-router-dtype fp32
)

export MASTER_ADDR=${WORKER_0_HOST}
ray start --head --node-ip-address ${MASTER_ADDR} --num-gpus $GPUS --dashboard-host=0.0.0.0 --dashboard-port=8265
for host in $(awk '{print $1}' /root/hostfile); do
  ssh root@"$host" "pkill -9 python; ray start --address=${MASTER_ADDR}:6379" &
done
wait

RUNTIME_ENV_JSON="{
  \"env_vars\": {
    \"PYTHONPATH\": \"/root/Megatron-LM/\",
    \"NCCL_NET_GDR_LEVEL\": \"2\",
    \"NCCL_DEBUG\": \"WARN\",
    \"NCCL_NET_GDR_LEVEL\": \"4\",
    \"JUDGE_URL\": \"http://172.31.5.9:7248/evaluate\",
    \"MASTER_ADDR\": \"${MASTER_ADDR}\"
  }
}"

ray job submit --address="http://127.0.0.1:8265" \
   --runtime-env-json="${RUNTIME_ENV_JSON}" \
   -- python3 train.py \
   --actor-num-nodes ${NUM_NODES} \
   --actor-num-gpus-per-node ${GPUS} \
   --colocate \
   --offload \
   ${MODEL_ARGS[@]} \
   ${CKPT_ARGS[@]} \
   ${ROLLOUT_ARGS[@]} \
   ${EVAL_ARGS[@]} \
   ${REWARD_ARGS[@]} \
   ${PERF_ARGS[@]} \
   ${GRPO_ARGS[@]} \
   ${OPTIMIZER_ARGS[@]} \
   ${WANDB_ARGS[@]} \
   ${SGLANG_ARGS[@]} \
   ${MISC_ARGS[@]}
