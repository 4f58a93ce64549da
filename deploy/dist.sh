#!/usr/bin/env bash
# Runs cargo with the given arguments, for programs of the profile `dist`, with the RocksDB of the profile `release`: each profile would
# compile one of its own (15-20 minutes). A RocksDB that ROCKSDB_LIB_DIR names already is used as it is.
set -euo pipefail

cargo=${CARGO:-cargo}
if [ -z "${ROCKSDB_LIB_DIR:-}" ]; then
    manifest=$(dirname "$0")/../Cargo.toml
    ROCKSDB_LIB_DIR=$("$cargo" build --manifest-path "$manifest" --release -p librocksdb-sys --message-format json-render-diagnostics |
        sed -n '/"reason":"build-script-executed"/ s/.*#librocksdb-sys@.*"out_dir":"\([^"]*\)".*/\1/p')
    if [ ! -f "$ROCKSDB_LIB_DIR/librocksdb.a" ]; then
        echo "RocksDB is not where its build says: '$ROCKSDB_LIB_DIR' has no librocksdb.a" >&2
        exit 1
    fi
    export ROCKSDB_LIB_DIR ROCKSDB_STATIC=1
fi
exec "$cargo" "$@"
