#!/usr/bin/env bash
# Ours against the peers on a GPU: one script for a bare machine with the program, this folder, the peers' programs and Python. Prints one table.
#
#   benches/gpu.sh PROGRAM YARDSTICKS OUT               all rows, within five minutes
#   benches/gpu.sh PROGRAM YARDSTICKS OUT ula_4096 start   some rows
#   benches/gpu.sh PROGRAM YARDSTICKS OUT table         the table of what OUT holds, nothing is run
#
# PROGRAM      the `ember` binary, built with `wgpu`, `vulkan` or `cuda`
# YARDSTICKS   the folder of the peers' programs: bench_gpu.py, bench_update.py, bench_langevin.py, make_model.py, spec.py. What is not there is named as not run
# OUT          a folder to make or go on with: devices.txt, check.txt (`ember devices --check`), ROW.jsonl (every result, with its command, written when it is there), table.md.
#              What is there is not run again: the same call goes on where the time was over
# BUDGET       300: seconds for everything. First ours in every row, in order of weight; then in every row the peer that is usually fastest; then the others. One
#              program at a time. The table is printed when the time is over, and on SIGINT and SIGTERM
# TIMEOUT      seconds that one program may take, instead of each row's own limit (40 to 60)
# ROUNDS       1: rounds of all this; the median is taken. Every bench is itself a median or a mean over a second or more
# DEVICE       wgpu (default), or what else `--device` takes
# TORCH_PYTHON, JAX_PYTHON   interpreters with PyTorch and JAX that reach the GPU; default python3. What a Python lacks is named as not run; where
#              neither has numpy and safetensors, ours runs on random weights of its own
# DATA         the folder of CIFAR-10's binary files, for the row `cifar`; without it that row is not run
# TINY=1       a handful of walkers and steps, peers on the processor: to know that the script works, with software Vulkan or DEVICE=flex
#
# Rows: ula_4096 update_mlp conv_f32 update_f32 mala_4096 mixture real_nvp ula_65536 ula_1m resample start conv_tf32 update_tf32 cifar matmul
# conv_*: weighted ULA of the CIFAR-10 network, 256 walkers; update_*: 60 such steps and one of Adam; cifar: configs/cifar10_jarzynski.toml, 256 walkers × 60 steps;
# mixture: configs/mixture50_jarzynski.toml, with `flex` beside.
# Benches whose --help knows `--precision` are given it; else tf32 is not run.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,30p' "$0" | cut -c3-; exit 2; }
here=$(dirname "$(realpath "$0")")
export ROUNDS="${ROUNDS:-1}"
exec "${PYTHON:-python3}" "$here/peers/gpu.py" "$@"
