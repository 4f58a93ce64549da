#!/usr/bin/env bash
# All five nodes are killed (SIGKILL) at the same moment, three times, and started again a second later. Every acknowledged write is
# there afterwards, and clients are served again within 3 s of each start.
# Needs nothing beyond Debian's base.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"
chaos_run kill-all "$@"
