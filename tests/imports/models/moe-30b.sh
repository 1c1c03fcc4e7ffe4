# The shape of a mixture of 128 experts, flag by flag.
MODEL_ARGS=(
   --swiglu
   --num-layers 48
   --hidden-size 2048
   --ffn-hidden-size 6144
   --num-attention-heads 32
   --group-query-attention
   --num-query-groups 4
   --kv-channels 128
   --qk-layernorm
   --normalization "RMSNorm"
   --norm-epsilon 1e-6
   --position-embedding-type rope
   --rotary-base 10000000
   --vocab-size 151936
   --disable-bias-linear
   --untie-embeddings-and-output-weights
   --num-experts 128
   --moe-router-topk 8
   --moe-ffn-hidden-size 768
   --moe-router-load-balancing-type none
   --moe-grouped-gemm
   --make-vocab-size-divisible-by 32
)
