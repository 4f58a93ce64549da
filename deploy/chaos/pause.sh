#!/usr/bin/env bash
# One node is stopped (SIGSTOP) for 8 s and goes on (SIGCONT) as if nothing had been; then another one.
# Needs nothing beyond Debian's base.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"
chaos_run pause "$@"
