#!/usr/bin/env bash
# One node's disk takes 200 ms longer for each sync, for 8 s; then the network around another node is slow (30 to 120 ms), loses 3 % of the
# datagrams and doubles 3 %, for 8 s.
# Needs strace, and the right to trace processes (root, in most containers).
set -euo pipefail
. "$(dirname "$0")/prepare.sh"
need_strace
chaos_run slow "$@"
