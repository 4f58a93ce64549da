#!/usr/bin/env bash
# The wall clock of one node jumps an hour ahead, and back; meanwhile that of another jumps a day behind, and back.
# Needs libfaketime (Debian: faketime), and a daemon without jemalloc.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"
chaos_steerable
chaos_run clock "$@"
