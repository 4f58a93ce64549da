#!/usr/bin/env bash
# Proves that the suite can fail: a sound run is green, one that is kept from seeing an acknowledged write is red for that reason, and so
# is one whose faults are announced and not carried out.
# Needs nothing beyond Debian's base.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"
chaos_binaries

# Expected exit code, a pattern of the expected line, arguments.
expect() {
    local code=$1 pattern=$2 said ended=0
    shift 2
    said=$("$CHAOS_PROGRAM" "$@" --warm-up 2s --fault 6s --after 1s 2>/dev/null) || ended=$?
    if [ "$ended" -ne "$code" ] || ! grep -Eq "$pattern" <<<"$said"; then
        echo "self-test: FAILED: $* ended with $ended; expected $code and a line with: $pattern"
        echo "$said"
        exit 1
    fi
    echo "as it should be: $* ends with $code: $(grep -Eom1 "$pattern" <<<"$said")"
}

expect 0 'flap: OK' flap
expect 1 'FAILED +no promise of the data broken: VIOLATION of invariant 1 \(no lost write\)' flap --sabotage lose-write
expect 1 'FAILED +faults had an effect: NO EFFECT: cut' flap --sabotage no-fault
expect 1 'FAILED +faults had an effect: NO EFFECT: kill n2' kill-one --sabotage no-fault
expect 1 'FAILED +hints to deliver: 0 of 1000 wanted' hints --hints 1000 --sabotage no-fault
expect 1 'FAILED +none lost: 1 of' hints --hints 1000 --sabotage lose-write
echo "self-test: OK"
