#!/usr/bin/env bash
# Puts Milvus on Kubernetes for Segue: the chart, a Service for clients outside, the collections with their HNSW indexes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
    cat <<'USAGE'
usage: deploy-milvus.sh --credentials FILE [option]...
       deploy-milvus.sh --render [option]...

Installs or upgrades Milvus by zilliztech's Helm chart (3 etcd, 4 MinIO), publishes port 19530, and makes each collection of
segue.toml with its HNSW index. Every command is printed before it is run. Run again, it changes what has changed.

  --credentials FILE    values with the passwords; see deploy/helm/milvus-credentials.example.yaml
  --values FILE         more values, over deploy/helm/milvus-values.yaml; may be given several times
  --chart CHART         the chart (zilliztech/milvus, after `helm repo add zilliztech …`), or a .tgz of it
  --chart-version V     its version (5.0.28); not asked for with a .tgz
  --namespace NAME      where to (milvus)
  --release NAME        the release's name, without dots (milvus)
  --timeout TIME        how long Milvus may take to become ready (20m), and the Service to get an address
  --config FILE         Segue's configuration (segue.toml)
  --milvus-uri URI      where this machine reaches Milvus; by default the address that the Service gets
  --no-collections      stop when Milvus is there
  --render              print the manifests on stdout; asks no cluster, and with a .tgz no network
  --dry-run             print the commands, run none
  -h, --help            print this

Needs helm and kubectl, and for the collections NEO4J_… and MILVUS_TOKEN (or …_FILE) in the environment.
USAGE
}

fail() {
    echo "deploy-milvus: $1" >&2
    exit "${2:-2}"
}

credentials='' values=() chart=zilliztech/milvus version=5.0.28 namespace=milvus release=milvus timeout=20m
config=segue.toml uri='' collections=true render=false dry=false
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit ;;
        --no-collections) collections=false; shift; continue ;;
        --render) render=true; shift; continue ;;
        --dry-run) dry=true; shift; continue ;;
        --credentials | --values | --chart | --chart-version | --namespace | --release | --timeout | --config | --milvus-uri)
            [ $# -ge 2 ] || fail "$1 needs a value (--help)" ;;
        *) fail "unknown option $1 (--help)" ;;
    esac
    case $1 in
        --credentials) credentials=$2 ;;
        --values) values+=(--values "$2") ;;
        --chart) chart=$2 ;;
        --chart-version) version=$2 ;;
        --namespace) namespace=$2 ;;
        --release) release=$2 ;;
        --timeout) timeout=$2 ;;
        --config) config=$2 ;;
        --milvus-uri) uri=$2 ;;
    esac
    shift 2
done

say() { echo "deploy-milvus: $*" >&2; }

run() {
    printf '+ %s\n' "${*@Q}" >&2
    $dry || "$@"
}

need() { $dry || command -v "$1" >/dev/null || fail "$1 is needed and not on the PATH" 1; }

external_service() {
    sed "s|app.kubernetes.io/instance: milvus|app.kubernetes.io/instance: $release|" \
        "$root/deploy/k8s/milvus/external-service.yaml"
}

if [ -z "$credentials" ]; then
    $render || $dry || fail "--credentials FILE is needed: copy deploy/helm/milvus-credentials.example.yaml, change its passwords"
    credentials=$root/deploy/helm/milvus-credentials.example.yaml
    say "no --credentials: with the example's"
elif ! $render && grep -q change-me "$credentials"; then
    fail "$credentials still holds a password of the example"
fi
wanted=(--namespace "$namespace" --values "$root/deploy/helm/milvus-values.yaml" "${values[@]}" --values "$credentials")
[ -f "$chart" ] || wanted+=(--version "$version")
need helm

if $render; then
    run helm template "$release" "$chart" "${wanted[@]}"
    printf -- '---\n'
    external_service
    exit
fi

need kubectl
say "Milvus: release $release in namespace $namespace, ready within $timeout"
run helm upgrade --install "$release" "$chart" "${wanted[@]}" --create-namespace --wait --timeout "$timeout"

say "a Service for clients outside: port 19530 alone"
run kubectl --namespace "$namespace" apply --filename - <<<"$(external_service)"

$collections || exit 0
if [ -z "$uri" ]; then
    field='{.status.loadBalancer.ingress[0].ip}{.status.loadBalancer.ingress[0].hostname}'
    run kubectl --namespace "$namespace" wait "--for=jsonpath={.status.loadBalancer.ingress}" --timeout "$timeout" \
        service/milvus-external || fail "the Service milvus-external got no address; give --milvus-uri, e.g. of a port-forward" 1
    address=ADDRESS
    $dry || address=$(kubectl --namespace "$namespace" get service milvus-external --output "jsonpath=$field")
    uri=http://$address:19530
fi

segue=${SEGUE:-segue}
[ -n "${SEGUE:-}" ] || [ ! -x "$root/.venv/bin/segue" ] || segue=$root/.venv/bin/segue
need "$segue"
say "the collections of $config and their HNSW indexes, at $uri"
run env "MILVUS_URI=$uri" "$segue" migrate-embeddings --schema-only --config "$config"
say "done: MILVUS_URI=$uri"
