#!/usr/bin/env bash
# Makes the Python environment that the golden files and the benchmarks need: PyTorch, torchvision, ONNX Runtime, at the
# versions that every figure and golden file in this repository was made with. About 5.6 GB, outside the repository.
# Use: scripts/peers.sh [DIR]   (default: ~/.cache/ocelli-peers)
set -euo pipefail
dir=${1:-$HOME/.cache/ocelli-peers}
[ -x "$dir/bin/python" ] || python3 -m venv "$dir"
"$dir/bin/pip" install --quiet torch==2.14.1 torchvision==0.29.1 onnx==1.21.0 onnxruntime==1.32.0 numpy
"$dir/bin/python" -c 'import torch, onnxruntime; print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)'
echo "$dir/bin/python"
