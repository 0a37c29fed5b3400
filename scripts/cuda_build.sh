#!/usr/bin/env bash
# Builds `ember` with CUDA beside Vulkan, on a machine without a CUDA toolkit or LLVM: half an hour to an hour on two cores, once.
#
#   scripts/cuda_build.sh               into target/release, or CARGO_TARGET_DIR
#   scripts/cuda_build.sh --check       type-checks instead: no LLVM is fetched
#
# The kernel compiler needs LLVM 23.1, which this takes from two Python wheels (300 MB) unless it is there already. Needs Rust, Python ≥ 3.10 with
# pip, unzip, and the network once. CUDARC_CUDA_VERSION (13000) is the CUDA interface that is built for; drivers of CUDA 12 and 13 load it.
#
# To run: an NVIDIA driver, and nvvm/libdevice/libdevice.10.bc below CUDA_PATH: a CUDA toolkit, or
#   pip install nvidia-nvvm && export CUDA_PATH=$(python3 -c 'import nvidia, pathlib; print(next(p.parents[2] for r in nvidia.__path__ for p in pathlib.Path(r).rglob("libdevice.10.bc")))')
# Then: ember devices --check cuda
set -euo pipefail
cd "$(dirname "$0")/.."
export CUDARC_CUDA_VERSION="${CUDARC_CUDA_VERSION:-13000}"

if [ "${1:-}" = --check ]; then
  # The build scripts skip LLVM where documentation is built.
  DOCS_RS=1 cargo check --release -p ember-train --features cuda,persistence
  exit
fi

version=23.1.1.post0
llvm="${XDG_DATA_HOME:-$HOME/.local/share}/tracel/tracel-llvm-23.1.0-4"
if [ ! -e "$llvm/.tracel-llvm-installed" ]; then
  wheels="$(mktemp -d)"
  trap 'rm -rf "$wheels"' EXIT
  python3 -m pip download -q --no-deps --only-binary=:all: -d "$wheels" "mlc-llvm-static==$version" "mlc-llvm-static-extra-targets==$version"
  for wheel in "$wheels"/*.whl; do unzip -qo "$wheel" -d "$wheels/files"; done
  mkdir -p "$llvm"
  cp -a "$wheels/files/mlc_llvm_static/static/." "$llvm"
  chmod +x "$llvm"/bin/*
  touch "$llvm/.tracel-llvm-installed"
fi
cargo build --release -p ember-train --features cuda,persistence
