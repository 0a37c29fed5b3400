#!/usr/bin/env bash
# The figures of benches/RESULTS.md, one row at a time. Restartable: a row whose result is there is not run again.
#
#   benches/figures.sh                 all rows
#   benches/figures.sh seeds toy       some rows
#
# EMBER      the program (default: target/release/ember, built first where it is missing)
# FIGURES    the folder of results (default: figures/), one text file a row; remove one to run its row again
# EMBER_DATA the folder of MNIST and the other image sets, for the rows that read them
# Rows: seeds baselines toy mlp2d coverage gpu speed memory; flows: two_modes two_modes_local parts modes mixtures flow_bench;
# images (EMBER_DATA): shapes mnist ood memory_images
set -euo pipefail
cd "$(dirname "$0")/.."

out="${FIGURES:-figures}"
mkdir -p "$out"
target="${CARGO_TARGET_DIR:-target}"
ember="${EMBER:-$target/release/ember}"
[ -x "$ember" ] || cargo build --release --workspace
export RAYON_NUM_THREADS="${RAYON_NUM_THREADS:-1}"

# train_eval NAME CONFIG [ARGS...]: one run and its evaluation, as one line of JSON. CONFIG is one of configs/, or a path
train_eval() {
  local name="$1" config="$2"
  [ -f "$config" ] || config="configs/$config.toml"
  shift 2
  if [ ! -s "$out/$name.json" ]; then
    if [ -d "$out/runs/$name" ]; then "$ember" resume "$out/runs/$name" --device flex >/dev/null
    else "$ember" train "$config" --out "$out/runs/$name" --device flex "$@" >/dev/null; fi
    "$ember" eval "$out/runs/$name" --json --device flex >"$out/$name.json.new"
    mv "$out/$name.json.new" "$out/$name.json"
  fi
  printf '%s ' "$name"
  cat "$out/$name.json"
}

row() {
  echo "== $1" >&2
  case "$1" in
    seeds) for seed in 0 1 2 3 4; do train_eval "mixture50_jarzynski-$seed" mixture50_jarzynski --seed "$seed"; done ;;
    baselines) for kind in pcd cd; do train_eval "mixture50_$kind" "mixture50_$kind"; done ;;
    toy) for kind in jarzynski pcd cd; do train_eval "toy1d_$kind" "toy1d_$kind"; done ;;
    mlp2d) train_eval mlp2d_jarzynski mlp2d_jarzynski ;;
    two_modes) for seed in 0 1 2 3 4; do train_eval "two_modes_flow_assisted-$seed" two_modes_flow_assisted --seed "$seed"; done ;;
    two_modes_local)
      for seed in 0 1 2; do
        train_eval "two_modes_jarzynski-$seed" two_modes_jarzynski --seed "$seed"
        train_eval "two_modes_ula_pcd-$seed" two_modes_ula_pcd --seed "$seed"
        train_eval "two_modes_ula_pcd_noise-$seed" two_modes_ula_pcd --seed "$seed" --set walkers.init=normal
      done ;;
    parts)
      # The four ways to move the walkers of two_modes_flow_assisted, from a base whose masses are 1 : 1 where the data's are 2 : 1.
      local base="$out/runs/even_base"
      if [ ! -d "$base" ]; then
        "$ember" train configs/mixture2d_realnvp.toml --out "$base" --device flex --steps 2000 --set 'dataset.means=[[-2.0], [2.0]]' \
          --set 'dataset.weights=[0.5, 0.5]' --set energy.layers=6 --set dataset.batch_size=256 --set optimizer.learning_rate=0.002 \
          --set optimizer.schedule.horizon=2000 >/dev/null
      fi
      sed -e '/^\[pretrain\]/,/^$/d' -e "s|^base = .*|base = \"$base\"|" configs/two_modes_flow_assisted.toml >"$out/parts.toml"
      local mala='kernel={ kind = "mala", step_size = 0.15, steps_per_update = 2 }'
      for seed in 0 1 2 3 4; do
        train_eval "parts_local-$seed" "$out/parts.toml" --seed "$seed" --set 'objective={ kind = "persistent_cd" }' --set "$mala"
        train_eval "parts_weights-$seed" "$out/parts.toml" --seed "$seed" --set 'objective={ kind = "jarzynski" }' --set "$mala"
        train_eval "parts_global-$seed" "$out/parts.toml" --seed "$seed"
        train_eval "parts_both-$seed" "$out/parts.toml" --seed "$seed" --set objective.weights=true
      done ;;
    modes) for set in 8gaussians rings; do train_eval "${set}_flow_assisted" "${set}_flow_assisted"; done ;;
    mixtures)
      for dim in 16 32 64 128 256; do
        train_eval "mixture$dim" "mixture${dim}_flow_assisted"
        # Acceptance of global moves and jumps per update, means over the second half of the run.
        tail -n 10 "$out/runs/mixture$dim/metrics.jsonl"
      done ;;
    flow_bench)
      for threads in 1 2; do for _ in 1 2 3 4 5; do
        "$ember" bench flow --dim 32 --layers 8 --hidden 128 --batch 4096 --json --device flex --threads "$threads"
      done; done ;;
    coverage) cargo test --release --workspace --test coverage -- --nocapture --test-threads 1 ;;
    gpu) EMBER_FULL=1 cargo test --release --workspace --test gpu_path -- --nocapture --test-threads 1 ;;
    shapes) for seed in 0 1 2; do train_eval "shapes32-$seed" shapes32_jarzynski --seed "$seed"; done ;;
    mnist)
      for seed in 0 1 2; do for kind in jarzynski pcd; do
        train_eval "mnist236_$kind-$seed" "mnist236_$kind" --seed "$seed" --set "dataset.dir=$EMBER_DATA/mnist"
      done
        # The same from noise: the gap is wide until the walkers have come in.
        train_eval "mnist236_pcd_noise-$seed" mnist236_pcd --seed "$seed" --set "dataset.dir=$EMBER_DATA/mnist" \
          --set walkers.init=normal --set walkers.unweighted_start=true --set watchdog.max_energy_gap=1e5
      done ;;
    ood)
      for set in kmnist-test fashion-mnist-subset; do
        "$ember" eval "$out/runs/mnist236_jarzynski-0" --against "$EMBER_DATA/$set" --repeats 2 --json --device flex
      done ;;
    memory_images)
      # 4,096 walkers of 3 × 32 × 32: the peak after 10 and after 1,000 updates of a small network.
      small=(--set walkers.count=4096 --set walkers.moved_per_update=16 --set dataset.batch_size=16)
      for updates in 10 1000; do
        printf 'updates %s ' "$updates"
        "$ember" bench train configs/cifar10_small.toml "${small[@]}" --set "steps=$updates" \
          --set "dataset.dir=$EMBER_DATA/cifar10-lossless-subset/cifar-10-batches-bin" --updates "$updates" --json --device flex --threads 1
      done ;;
    speed)
      for _ in 1 2 3 4 5; do "$ember" bench train configs/mixture50_jarzynski.toml --updates 400 --json --device flex --threads 1; done
      for scheme in systematic stratified multinomial residual; do
        for _ in 1 2 3; do "$ember" bench resample --count 1000000 --scheme "$scheme" --json --device flex --threads 1; done
      done ;;
    memory)
      # Linear in the walkers; then flat over 10⁵ updates: the peak after 10³ and after 10⁵ updates of the same run.
      for walkers in 1000 10000 100000 1000000; do
        sed "s/^count = .*/count = $walkers/; s/^train_size = .*/train_size = 1000/; s/^batch_size = .*/batch_size = 1000/" \
          configs/mixture50_jarzynski.toml >"$out/memory.toml"
        printf 'walkers %s ' "$walkers"
        "$ember" bench train "$out/memory.toml" --updates 20 --json --device flex --threads 1
      done
      sed 's/^count = .*/count = 1000/; s/^train_size = .*/train_size = 1000/; s/^batch_size = .*/batch_size = 1000/' \
        configs/mixture50_jarzynski.toml >"$out/memory.toml"
      for updates in 1000 100000; do
        printf 'updates %s ' "$updates"
        "$ember" bench train "$out/memory.toml" --updates "$updates" --json --device flex --threads 1
      done ;;
    *) echo "no row '$1'; rows: seeds baselines toy mlp2d coverage gpu speed memory two_modes two_modes_local parts modes mixtures flow_bench shapes mnist ood \
memory_images" >&2; exit 2 ;;
  esac
}

rows=("$@")
[ "${#rows[@]}" -gt 0 ] || rows=(seeds baselines toy mlp2d coverage gpu speed memory)
for name in "${rows[@]}"; do
  if [ ! -s "$out/$name.txt" ]; then
    row "$name" | tee "$out/$name.txt.new"
    mv "$out/$name.txt.new" "$out/$name.txt"
  else
    cat "$out/$name.txt"
  fi
done
