# shellcheck shell=bash
# Read by the scripts beside it: finds or builds the binaries, sees to the tools that a fault needs, and runs scenarios.
#
#   DYNKV_BIN   a directory with dynkv (and dynkv-chaos, else that is built): nothing else is built
#   CHAOS_ARGS  more arguments of dynkv-chaos, such as "--seed 7 --json"

chaos_root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
# absolute: what is built here is built in the root
export CARGO_TARGET_DIR
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-$HOME/.cache/dynkv/target}")

# Installs a package unless its file or command is there; only root can, others are told.
chaos_need() {
    local package=$1 probe=$2
    if command -v "$probe" >/dev/null || compgen -G "$probe" >/dev/null; then
        return
    fi
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        echo "installing $package" >&2
        apt-get update -qq >&2
        env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >&2
    else
        # dynkv-chaos says what cannot be done without it
        echo "missing: $package; as root: apt-get install -y $package" >&2
    fi
}

need_strace() { chaos_need strace strace; }
need_faketime() { chaos_need faketime '/usr/lib/*/faketime/libfaketimeMT.so.1'; }

# Sets CHAOS_PROGRAM, and DYNKV_BIN for it; once for all scripts that all.sh runs.
chaos_binaries() {
    if [ -n "${CHAOS_PROGRAM:-}" ]; then
        return
    fi
    if [ -z "${DYNKV_BIN:-}" ]; then
        make -s -C "$chaos_root" build >&2
        DYNKV_BIN=$CARGO_TARGET_DIR/dist CHAOS_BUILT=yes
    fi
    CHAOS_PROGRAM=$DYNKV_BIN/dynkv-chaos
    # beside programs that were built here, always: cargo knows whether it is up to date
    if [ ! -x "$CHAOS_PROGRAM" ] || [ -n "${CHAOS_BUILT:-}" ]; then
        # with the daemon's features, so that all dependencies are there already
        "$chaos_root/deploy/dist.sh" build -q --features chaos --bin dynkv-chaos >&2
        CHAOS_PROGRAM=$CARGO_TARGET_DIR/dist/dynkv-chaos
    fi
    export DYNKV_BIN CHAOS_PROGRAM CHAOS_BUILT
}

# Has the nodes run a daemon without jemalloc: with it none starts under libfaketime. Of the profile whose RocksDB there is already, and in a
# directory of its own, since the tests' daemon has the same name. A DYNKV_BIN from outside stays what it is.
chaos_steerable() {
    need_faketime
    chaos_binaries
    if [ -n "${CHAOS_BUILT:-}" ]; then
        local cargo
        read -ra cargo <<<"${CARGO:-cargo}"
        # cargo takes its flags from the directory it runs in
        (cd "$chaos_root" && "${cargo[@]}" build -q --release --no-default-features --features rocksdb --bin dynkv) >&2
        DYNKV_BIN=$CARGO_TARGET_DIR/chaos
        install -D "$CARGO_TARGET_DIR/release/dynkv" "$DYNKV_BIN/dynkv"
    fi
}

# Runs one scenario: its name, then arguments.
chaos_run() {
    chaos_binaries
    # shellcheck disable=SC2086 # several words are meant
    exec "$CHAOS_PROGRAM" "$@" ${CHAOS_ARGS:-}
}
