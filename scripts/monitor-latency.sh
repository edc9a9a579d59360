#!/usr/bin/env bash
# Shows, again and again, how fast Neo4j and Milvus answer searches, by what Prometheus has scraped.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: monitor-latency.sh [INTERVAL] [option]...

Prints a line every INTERVAL seconds (5): the latency of both stores in milliseconds (p50 and p95), how many times faster Milvus
is at p95, the share of searches that Neo4j had to answer in Milvus's place, and the share of requests to the stores that failed.
Green is better than Neo4j, red is worse; without a terminal, or with NO_COLOR, nothing is coloured. A dash: nothing to show yet.

  --prometheus URL     where Prometheus is (PROMETHEUS_URL, else http://localhost:9090)
  --collection NAME    of this collection alone; by default all together
  --window TIME        over how long it is looked back (5m)
  --count N            end after N lines; by default when you press Ctrl-C
  --dry-run            print the queries, ask nothing
  -h, --help           print this

Needs curl; a Prometheus that wants a password takes it from your ~/.netrc.
USAGE
}

fail() {
    echo "monitor-latency: $1" >&2
    exit "${2:-2}"
}

interval=5 prometheus=${PROMETHEUS_URL:-http://localhost:9090} collection='.+' window=5m count=0 dry=false
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit ;;
        --dry-run) dry=true; shift; continue ;;
        --prometheus | --collection | --window | --count) [ $# -ge 2 ] || fail "$1 needs a value (--help)" ;;
        -*) fail "unknown option $1 (--help)" ;;
        *) interval=$1; shift; continue ;;
    esac
    case $1 in
        --prometheus) prometheus=${2%/} ;;
        --collection) collection=$2 ;;
        --window) window=$2 ;;
        --count) count=$2 ;;
    esac
    shift 2
done
[[ $interval =~ ^[0-9]+([.][0-9]+)?$ ]] || fail "INTERVAL is $interval, not a number of seconds"
[[ $count =~ ^[0-9]+$ ]] || fail "--count is $count, not a number"
[[ $window =~ ^([0-9]+(ms|s|m|h|d))+$ ]] || fail "--window is $window, not a time such as 30s or 5m"
[[ $collection == '.+' || $collection =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || fail "--collection is $collection, not the name of one"

chosen="collection=~\"$collection\""
quantile() { echo "histogram_quantile($1, sum by (le) (rate($2_search_latency_ms_bucket{$chosen}[$window])))"; }
per_second() { echo "sum(rate($1{$chosen${2:+,$2}}[$window]))"; }
fallbacks="$(per_second segue_search_fallbacks_total) / ($(per_second segue_searches_total 'mode=~"shadow_milvus|hybrid"') > 0)"
asked="($(per_second segue_searches_total) + $(per_second dual_write_attempts_total))"
errors="(sum(rate(segue_store_errors_total{$chosen}[$window])) or vector(0)) / ($asked > 0)"
queries=("$(quantile 0.5 neo4j)" "$(quantile 0.95 neo4j)" "$(quantile 0.5 milvus)" "$(quantile 0.95 milvus)" "$fallbacks" "$errors")
if $dry; then
    printf '%s\n' "${queries[@]}"
    exit
fi
command -v curl >/dev/null || fail "curl is needed and not on the PATH" 1

green='' red='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

# One number, NaN where there is none: scalar() makes the answer as simple as that.
number() {
    local answer
    answer=$(curl --silent --show-error --fail --netrc-optional --max-time 10 --get "$prometheus/api/v1/query" \
        --data-urlencode "query=scalar($1)") || fail "Prometheus at $prometheus does not answer" 1
    [[ $answer =~ \"result\":\[[0-9.]+,\"([^\"]+)\"\] ]] || fail "Prometheus at $prometheus answers something else: $answer" 1
    echo "${BASH_REMATCH[1]}"
}

printf '%-8s  %19s  %19s  %8s  %9s  %7s\n' time 'Neo4j p50   p95 ms' 'Milvus p50   p95 ms' 'speed-up' fallbacks errors
for ((line = 1; count == 0 || line <= count; line++)); do
    numbers=()
    for query in "${queries[@]}"; do
        numbers+=("$(number "$query")")
    done
    awk -v time="$(date +%H:%M:%S)" -v numbers="${numbers[*]}" -v green="$green" -v red="$red" -v plain="$plain" '
        function known(n) { return n ~ /^[0-9]/ }
        function shown(n, form) { return known(n) ? sprintf(form, n) : "-" }
        function coloured(text, width, good, bad) { return (good ? green : bad ? red : "") sprintf("%" width "s", text) plain }
        BEGIN {
            split(numbers, n, " ")
            speed = known(n[2]) && known(n[4]) && n[4] > 0 ? n[2] / n[4] : "-"
            share5 = known(n[5]) ? 100 * n[5] : "-"
            share6 = known(n[6]) ? 100 * n[6] : "-"
            printf "%-8s  %10s  %7s  %11s  %6s  %s  %s  %s\n", time, shown(n[1], "%.1f"), shown(n[2], "%.1f"),
                shown(n[3], "%.1f"), shown(n[4], "%.1f"),
                coloured(shown(speed, "%.2fx"), 8, speed != "-" && speed >= 1, speed != "-" && speed < 1),
                coloured(shown(share5, "%.2f %%"), 9, share5 != "-" && share5 <= 1, share5 != "-" && share5 > 5),
                coloured(shown(share6, "%.2f %%"), 7, share6 != "-" && share6 == 0, share6 != "-" && share6 > 1)
        }'
    ((count > 0 && line == count)) || sleep "$interval"
done
