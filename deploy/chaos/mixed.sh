#!/usr/bin/env bash
# All kinds of faults, one after the other, on nodes and in an order that a seed draws (--seed 7): nodes killed, one and all, stopped, cut off,
# slow disks and networks, a full disk, clocks that jump.
# Needs strace, libfaketime (Debian: faketime), a daemon without jemalloc, and root to mount a tmpfs.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"
need_strace
chaos_steerable
chaos_run mixed "$@"
