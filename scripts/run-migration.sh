#!/usr/bin/env bash
# A whole migration of embeddings, in eight phases, each a few lines over the `segue` command line: what a phase refuses is
# refused here too, and users can be taken back at any moment by `segue rollback --confirm`. Try --help.
set -euo pipefail

PHASES=(preflight dual_write backfill validation shadow_milvus performance hybrid report)

usage() {
    cat <<'USAGE'
run-migration.sh: a whole migration of embeddings from Neo4j to Milvus, phase by phase

  preflight      both stores are looked at, and what is missing for a migration is said
  dual_write     every write leaves a mark from here on (with --capture, by a trigger in Neo4j)
  backfill       what there is already is copied; a relay carries over what changes
  validation     both stores are compared, and what differs is made equal
  shadow_milvus  Milvus answers users; a sample is asked of both and compared
  performance    Milvus must be quick enough beside Neo4j, by what the application counts
  hybrid         Milvus answers users
  report         the whole of it in one page

Options
  --from PHASE         begin there: an earlier run came so far, or you did it by hand
  --config FILE        the configuration (segue.toml)
  --collection NAME    this collection only
  --capture            capture changes by a trigger in Neo4j, where others write too
  --skip-validation    leave validation out; its gate is overridden, with a reason, which every report shows
  --reason TEXT        that reason
  --min-speed-up X     how many times shorter Milvus's median must be in the performance check (1); 0 leaves it out
  --metrics-url URL    a /metrics page of the application, several times for several; in place of [monitor] urls
  --metrics-port PORT  the copy serves its metrics there, and the relay that this script starts on the port after it
  --patience SECONDS   how long each mode waits for its gates and for the application (900)
  --report FILE        where the report goes (migration-report.html)
  --keep-relay         leave the relay running that this script started
  --dry-run            say what would be run; change nothing
  --yes, --no-input    do not ask before anything is changed
  -h, --help           this text

The exit code is that of the command that failed: 3 preflight, 4 validation, 5 a gate that stayed closed, 1 anything else.
The same command with --from PHASE goes on from there; each phase may be run again.
USAGE
}

say() { printf '%s\n' "$*" >&2; }
heading() { printf '\n== %s: %s ==\n' "$1" "$2" >&2; }
fail() {
    local code=$1
    shift
    say "run-migration: $*"
    exit "$code"
}

from=preflight config=segue.toml collection="" capture=no validates=yes reason="validation was skipped" speed_up=1
patience=900 report=migration-report.html keeps_relay=no dry=no asks=yes urls=() port=""

value() { [ "$2" -ge 2 ] || fail 2 "$1 needs a value (--help)"; }
while [ $# -gt 0 ]; do
    case $1 in
        --from) value "$1" $#; from=$2; shift ;;
        --config) value "$1" $#; config=$2; shift ;;
        --collection) value "$1" $#; collection=$2; shift ;;
        --capture) capture=yes ;;
        --skip-validation) validates=no ;;
        --reason) value "$1" $#; reason=$2; shift ;;
        --min-speed-up) value "$1" $#; speed_up=$2; shift ;;
        --metrics-url) value "$1" $#; urls+=(--metrics-url "$2"); shift ;;
        --metrics-port) value "$1" $#; port=$2; shift ;;
        --patience) value "$1" $#; patience=$2; shift ;;
        --report) value "$1" $#; report=$2; shift ;;
        --keep-relay) keeps_relay=yes ;;
        --dry-run) dry=yes ;;
        --yes | --no-input) asks=no ;;
        -h | --help) usage; exit 0 ;;
        *) fail 2 "there is no option $1 (--help)" ;;
    esac
    shift
done

begins=-1
for number in "${!PHASES[@]}"; do [ "${PHASES[$number]}" = "$from" ] && begins=$number; done
[ "$begins" -ge 0 ] || fail 2 "there is no phase $from; there are: ${PHASES[*]}"
case $patience in '' | *[!0-9]*) fail 2 "--patience takes whole seconds, not $patience" ;; esac
case $speed_up in '' | . | *[!0-9.]* | *.*.*) fail 2 "--min-speed-up takes a number, not $speed_up" ;; esac
case $port in *[!0-9]*) fail 2 "--metrics-port takes a port, not $port" ;; esac
command -v segue >/dev/null || fail 2 "there is no segue on the PATH: activate its environment first"

of=(--config "$config")
[ -z "$collection" ] || of+=(--collection "$collection")

# Everything goes through here, so that a dry run shows exactly what would be run.
run() {
    say "\$ segue $*"
    [ "$dry" = yes ] || segue "$@"
}

# Try a mode until its gates are open, or patience ends; what a refusal says is told when it is another one.
reach() {
    local mode=$1 code said="" told="" until=$((SECONDS + patience))
    shift
    say "\$ segue mode set $mode ${of[*]} $*"
    [ "$dry" = no ] || return 0
    while true; do
        code=0
        said=$(segue mode set "$mode" "${of[@]}" --wait-secs "$patience" "$@" 2>&1 >/dev/null) || code=$?
        [ "$code" -eq 5 ] || break
        if [ "${said//[0-9]/}" != "$told" ]; then
            say "$said"
            told=${said//[0-9]/}
        fi
        [ "$SECONDS" -lt "$until" ] || fail 5 "$mode is not open after $patience s"
        sleep 2
    done
    [ "$code" -eq 0 ] || fail "$code" "$said"
    say "the mode is $mode"
}

relay=""
require_relay() {
    [ "$dry" = no ] || { say "\$ segue relay ${of[*]}${port:+ --metrics-port $((port + 1))} &   # where none runs"; return 0; }
    { [ -z "$relay" ] || ! kill -0 "$relay" 2>/dev/null; } || return 0
    segue monitor --once --format json "${of[@]}" | grep -q '"relays": 0' || return 0
    segue relay "${of[@]}" ${port:+--metrics-port $((port + 1))} >relay.out 2>relay.log &
    relay=$!
    say "no relay ran: started one, process $relay, messages in relay.log"
}

end() {
    local code=$?
    trap - EXIT
    if [ -n "$relay" ] && kill -0 "$relay" 2>/dev/null; then
        if [ "$keeps_relay" = yes ]; then
            say "the relay goes on as process $relay"
            disown "$relay"
        else
            kill -TERM "$relay"
            wait "$relay" || true
            say "the relay that this script started has ended; while the mode is not neo4j_only, one must run: segue relay"
        fi
    fi
    if [ "$code" -ne 0 ] && [ -n "${phase:-}" ]; then
        say "run-migration: stopped in $phase. On from there: run-migration.sh --from $phase"
        say "run-migration: users back on Neo4j alone: segue rollback --confirm ${of[*]}"
    fi
    exit "$code"
}
trap end EXIT
trap 'exit 130' INT TERM

preflight() { run preflight "${of[@]}"; }

dual_write() {
    [ "$capture" = no ] || run capture install "${of[@]}"
    reach dual_write
}

backfill() {
    run migrate-embeddings "${of[@]}" ${port:+--metrics-port "$port"}
    require_relay
}

validation() {
    if [ "$validates" = no ]; then
        say "left out: its gate will be overridden ($reason)"
        return 0
    fi
    require_relay
    # Twice at most: what differs is made equal, and then nothing may differ any more.
    run validate --full "${of[@]}" || run validate --full --fix "${of[@]}"
}

shadow_milvus() {
    require_relay
    if [ "$validates" = yes ]; then reach shadow_milvus; else reach shadow_milvus --override validation --reason "$reason"; fi
}

performance() {
    if [ "$(awk "BEGIN {print ($speed_up == 0)}")" = 1 ]; then
        say "left out"
        return 0
    fi
    local look=(monitor --once "${of[@]}" ${urls[@]+"${urls[@]}"}) found one until=$((SECONDS + patience))
    run "${look[@]}" >&2
    [ "$dry" = no ] || return 0
    # It takes some searches by both stores until there is a median of each.
    while found=$(segue "${look[@]}" --format json | sed -n 's/^ *"speed_up": \([^,]*\),*$/\1/p') && [[ $found == *null* ]]; do
        [ "$SECONDS" -lt "$until" ] || fail 1 "nobody who was asked has counted searches of both stores: --metrics-url"
        sleep 2
    done
    for one in $found; do
        say "Milvus's median is $one times shorter than Neo4j's; $speed_up is wanted"
        [ "$(awk "BEGIN {print ($one >= $speed_up)}")" = 1 ] || fail 1 "Milvus is not quick enough"
    done
}

hybrid() {
    require_relay
    if [ "$validates" = yes ]; then reach hybrid; else reach hybrid --override validation --reason "$reason"; fi
}

report() {
    run report "${of[@]}" ${urls[@]+"${urls[@]}"} --output-file "$report"
    [ "$dry" = yes ] || say "the report is in $report"
}

if [ "$asks" = yes ] && [ "$dry" = no ]; then
    [ -t 0 ] || fail 5 "nobody can be asked: --yes goes on without a question, --dry-run shows what would be run"
    printf 'Go through %s with %s? [y/N] ' "${PHASES[*]:$begins}" "$config" >&2
    read -r answer
    [ "$answer" = y ] || [ "$answer" = yes ] || fail 5 "nothing was changed"
fi

for number in "${!PHASES[@]}"; do
    [ "$number" -ge "$begins" ] || continue
    phase=${PHASES[$number]}
    heading "$((number + 1)) of ${#PHASES[@]}" "$phase"
    "$phase"
done
phase=""
