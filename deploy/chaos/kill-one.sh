#!/usr/bin/env bash
# One of five nodes is killed (SIGKILL), stays away for 16 s, and comes back. Held to what is promised of it: at W=2 and R=2 at least
# 99.9 % of requests succeed once the death is detected, no client is without a success for over 1 s, and within 30 s of the return
# hints are delivered and replicas identical.
# Needs nothing beyond Debian's base.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"
chaos_run kill-one "$@"
