#!/usr/bin/env bash
# RUSTC_WRAPPER of tests/fuzz/run.sh: arithmetic libraries are built without instrumentation. They read no input, and instrumented they
# take longer to build than everything else together.
case "${CARGO_PKG_NAME:-}" in
  burn* | gemm* | nano-gemm* | faer* | private-gemm* | pulp* | macerator* | cubecl* | mimalloc | libmimalloc-sys | half | num-complex | realfft | rustfft) ;;
  *) exec "$@" ;;
esac
plain=()
for argument in "$@"; do
  case "$argument" in
    -Cpasses=sancov-module | -Cllvm-args=-sanitizer-coverage-* | -Zsanitizer=address | -Ccodegen-units=*) ;;
    *) plain+=("$argument") ;;
  esac
done
exec "${plain[@]}" -Copt-level=1 -Cdebuginfo=0 -Cdebug-assertions=off
