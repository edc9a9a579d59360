#!/usr/bin/env bash
# Takes users back to Neo4j, from any mode, and shows that they are: `segue rollback`, then `segue mode show`.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
    cat <<'USAGE'
usage: rollback.sh [--confirm] [option]...

Without --confirm it shows what it would do, changes nothing, and ends with 5. Nothing is copied: Neo4j has everything.

  --confirm               do it
  --dry-run               show what it would do, and end with 0
  --preserve              keep Milvus's collections (the default)
  --delete NAME           delete this collection from Milvus, once users are back; may be given several times
  --collection NAME       take this collection back alone; by default all of the configuration
  --config FILE           Segue's configuration (segue.toml)
  --reason TEXT           why; recorded beside the mode
  -h, --help              print this

Exit code: that of `segue rollback` (0 done, 1 something is left to do by hand and is named, 5 not confirmed). More: docs/rollback.md.
USAGE
}

fail() {
    echo "rollback: $1" >&2
    exit 2
}

arguments=() shared=() confirm=false preserve=false delete=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit ;;
        --confirm) confirm=true; arguments+=("$1"); shift; continue ;;
        --dry-run) arguments+=("$1"); shift; continue ;;
        --preserve) preserve=true; shift; continue ;;
        --delete | --collection | --config | --reason) [ $# -ge 2 ] || fail "$1 needs a value (--help)" ;;
        *) fail "unknown option $1 (--help)" ;;
    esac
    case $1 in
        --delete) delete+=("$2") ;;
        --reason) arguments+=(--reason "$2") ;;
        *) shared+=("$1" "$2") ;;
    esac
    shift 2
done
if [ ${#delete[@]} -gt 0 ]; then
    $preserve && fail "--preserve and --delete exclude each other"
    arguments+=(--delete-milvus "${delete[@]}")
fi

segue=${SEGUE:-segue}
[ -n "${SEGUE:-}" ] || [ ! -x "$root/.venv/bin/segue" ] || segue=$root/.venv/bin/segue
command -v "$segue" >/dev/null || fail "segue is not on the PATH; install it, or name it: SEGUE=/path/to/segue"

code=0
"$segue" rollback --no-input "${shared[@]}" "${arguments[@]}" || code=$?
if $confirm && [ "$code" -le 1 ]; then
    "$segue" mode show "${shared[@]}" || echo "rollback: how it stands cannot be shown; the result above holds" >&2
fi
exit "$code"
