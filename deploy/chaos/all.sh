#!/usr/bin/env bash
# Runs the self-test and every scenario with its default times, one after the other (under ten minutes), and prints a table. Fails if one
# fails or is skipped; CHAOS_ARGS=--allow-skip lets those pass that this machine cannot run. CHAOS_ONLY="kill-one flap" runs these alone.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"
chaos_binaries
here=$chaos_root/deploy/chaos

failed=0
table=""
said=$(mktemp)
trap 'rm -f "$said"' EXIT
for name in ${CHAOS_ONLY:-self-test kill-one kill-all pause partition flap slow full-disk clock mixed hints}; do
    began=$SECONDS
    code=0
    "$here/$name.sh" | tee "$said" || code=$?
    verdict=ok
    if [ "$code" -ne 0 ]; then
        verdict=FAILED
        failed=1
    fi
    if grep -q ': SKIPPED$' "$said"; then
        verdict=SKIPPED
    fi
    table+=$(printf '%-10s  %-8s %4d s' "$name" "$verdict" $((SECONDS - began)))$'\n'
done
printf '\n%-10s  %-8s %6s\n%stotal %d s\n' SCENARIO VERDICT TIME "$table" "$SECONDS"
exit "$failed"
