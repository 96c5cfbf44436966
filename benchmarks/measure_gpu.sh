#!/bin/sh
# Everything that is to be measured on a GPU, in one command of some minutes:
#
#     sh benchmarks/measure_gpu.sh results-of-my-gpu/
#
# Attention alone: every backend, normalization and length, forward and backward, against peak and bandwidth. Then
# training and inference of whole encoders side by side, with rows of one length and with padding. FlashAttention takes
# part where it is installed. The folder then holds a CSV for each, which `benchmark_encoders.py --plot` draws.
set -eu
folder=${1:?"give the folder to write to"}
here=$(dirname "$0")
mkdir -p "$folder"
nvidia-smi >"$folder/gpu.txt"

python "$here/benchmark_attention.py" --device cuda --dtypes bfloat16 --output "$folder/attention-bfloat16.csv"
python "$here/benchmark_attention.py" --device cuda --dtypes float32 --lengths 512 2048 \
    --output "$folder/attention-float32.csv"

encoders="python $here/benchmark_encoders.py --device cuda --tokens 65536 --rounds 7"
gau="gau gau:softmax_plus@gau_triton gau:squared_relu@gau_triton gau:softmax_plus@sdpa"
if python -c "import flash_attn" 2>/dev/null; then
    gau="$gau gau:softmax_plus@flash_attention_2"
fi
$encoders --models $gau bert roformer modernbert --lengths 128 512 2048 --batches fixed variable \
    --output "$folder/encoders.csv"
$encoders --models gau gau+window=64 gau:softmax_plus@gau_triton bert modernbert --lengths 8192 --batches fixed \
    --output "$folder/encoders-8192.csv"
$encoders --models gau bert modernbert --lengths 512 --batches fixed --dtypes float32 \
    --output "$folder/encoders-float32.csv"
