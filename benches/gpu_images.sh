#!/usr/bin/env bash
# Image training on a machine with a GPU and nothing else: no Rust, no network.
#
#   benches/gpu_images.sh PROGRAM DATA OUT [SECONDS]
#
# PROGRAM  the `ember` binary, beside the folder of configs or with CONFIGS naming it
# DATA     a folder with CIFAR-10's binary files (short ones will do)
# OUT      a folder to make: devices.txt, throughput.json, summary.txt, and the run: metrics, last checkpoint, grids, report.html
# SECONDS  training time, 300 unless given
#
# DEVICE=wgpu (default), PEAK_TFLOPS=67 (f32 peak of the chip, for the share of it; H100 SXM), UPDATES=20,
# TINY=1 for software Vulkan: a handful of walkers and updates, so that the script itself is known to work.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,14p' "$0" | cut -c3-; exit 2; }
program=$(realpath "$1"); data=$(realpath "$2"); out=$3; seconds=${4:-300}
configs=${CONFIGS:-$(dirname "$(dirname "$(realpath "$0")")")/configs}
device=${DEVICE:-wgpu}; updates=${UPDATES:-20}; peak=${PEAK_TFLOPS:-67}
mkdir "$out"; out=$(realpath "$out")

sets=(--set "dataset.dir=$data")
moved=256; steps=10; batch=256
if [ -n "${TINY:-}" ]; then
  moved=4; steps=2; batch=4; updates=2
  sets+=(--set "energy.layers=[{ out = 4, kernel = 4, stride = 4 }, { out = 1, kernel = 8 }]")
  sets+=(--set walkers.count=8 --set "walkers.moved_per_update=$moved" --set "kernel.steps_per_update=$steps" --set "dataset.batch_size=$batch")
fi

"$program" devices | tee "$out/devices.txt"
"$program" bench train "$configs/cifar10_jarzynski.toml" "${sets[@]}" --updates "$updates" --device "$device" --json | tee "$out/throughput.json"

# FLOP of one update: 410 MFLOP per image for (U, ∇U), K + 1 of them for every walker that moves; one forward for the bound on the step,
# and forward and backward in θ (3 forwards of 205 MFLOP) for walkers and data.
[ -n "${TINY:-}" ] ||
rate=$(sed -E 's/.*"updates_per_s":([0-9.eE+-]+).*/\1/' "$out/throughput.json")
[ -n "${TINY:-}" ] || awk -v r="$rate" -v m="$moved" -v k="$steps" -v b="$batch" -v p="$peak" 'BEGIN {
  flop = m * ((k + 1) * 410e6 + 205e6) + (m + b) * 615e6
  printf "updates/s            %.4g\nLangevin images/s    %.4g\nTFLOP/s              %.4g (counted without the Gaussian base)\nshare of %g TFLOP/s  %.2f %%\n", r, r * m * k, r * flop / 1e12, p, r * flop / p / 1e10
}' | tee "$out/summary.txt"

# As long as there is time: SIGINT ends the update and writes a checkpoint (exit 130).
end=(--set output.log_every=20 --set output.checkpoint_every=200)
[ -z "${TINY:-}" ] || end=(--set output.log_every=1 --set output.checkpoint_every=2 --steps 2)
code=0
timeout -s INT "$seconds" "$program" train "$configs/cifar10_jarzynski.toml" "${sets[@]}" "${end[@]}" --device "$device" --out "$out/run" || code=$?
case $code in 0 | 124 | 130) ;; *) exit "$code" ;; esac
if [ ! -e "$out/run/samples" ] && [ -z "${TINY:-}" ]; then
  "$program" sample "$out/run" --count 64 --out "$out/grid.png" --device "$device"
fi
"$program" report "$out/run" --out "$out/report.html"
tail -n 1 "$out/run/metrics.jsonl" | tee -a "$out/summary.txt"
