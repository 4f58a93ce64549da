#!/usr/bin/env bash
# One of five nodes is killed while 100,000 hints for it are made (--hints), and comes back: they have to be delivered within 60 s. Then
# once more, while the node that holds most of them is killed half-way, and their target after three quarters. No acknowledged write may
# be missing with any of its replicas afterwards.
# Needs nothing beyond Debian's base.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"
chaos_run hints "$@"
