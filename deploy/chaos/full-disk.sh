#!/usr/bin/env bash
# The disk of one node (a tmpfs of its own) is full for 16 s; then there is room again, and the node is started anew.
# Needs root, to mount the tmpfs.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"
chaos_run full-disk "$@"
