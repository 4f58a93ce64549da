#!/usr/bin/env bash
# Runs a command of cargo (build, run, bench) with the profile `dist`, that of what users run, and with the RocksDB that the profile `release`
# has: each profile would compile one of its own (15-20 minutes). Where ROCKSDB_LIB_DIR names one, that is used. What it runs, runs in the
# root of the project.
#
#   deploy/dist.sh bench --bench cluster -- throughput    # one section of `make bench`
set -euo pipefail
export CARGO_TARGET_DIR
# absolute: what is built here is built in the root
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-$HOME/.cache/dynkv/target}")
read -ra cargo <<<"${CARGO:-cargo}"

case ${1:-} in
    build | run | bench) ;;
    *)
        echo "usage: deploy/dist.sh build|run|bench [ARGUMENT..]" >&2
        exit 2
        ;;
esac
# cargo takes its flags from the directory it runs in: with others RocksDB would be compiled anew
cd "$(realpath "$(dirname "$0")/..")"
if [ -z "${ROCKSDB_LIB_DIR:-}" ]; then
    ROCKSDB_LIB_DIR=$("${cargo[@]}" build --release -p librocksdb-sys --message-format json-render-diagnostics |
        sed -n '/"reason":"build-script-executed"/ s/.*#librocksdb-sys@.*"out_dir":"\([^"]*\)".*/\1/p')
    if [ ! -f "$ROCKSDB_LIB_DIR/librocksdb.a" ]; then
        echo "RocksDB is not where its build says: '$ROCKSDB_LIB_DIR' has no librocksdb.a" >&2
        exit 1
    fi
    export ROCKSDB_LIB_DIR ROCKSDB_STATIC=1
fi
exec "${cargo[@]}" "$1" --profile dist "${@:2}"
