#!/usr/bin/env bash
# The links between one node and all others are cut and mended every second, for 16 s.
# Needs nothing beyond Debian's base: the datagrams between nodes go through a proxy in user space.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"
chaos_run flap "$@"
