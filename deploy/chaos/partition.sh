#!/usr/bin/env bash
# Two nodes are cut off from the other three for 8 s; then nobody hears one node, which hears all others, for 8 s. Clients reach all nodes.
# Needs nothing beyond Debian's base: the datagrams between nodes go through a proxy in user space.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"
chaos_run partition "$@"
