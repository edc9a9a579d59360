"""Makes the PrometheusRule of `deploy/k8s/monitoring` from `segue-rules.yml`, for the Prometheus Operator.

python deploy/prometheus/prometheus_rule.py > deploy/k8s/monitoring/prometheus-rule.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path

HEAD = """\
# Made from deploy/prometheus/segue-rules.yml: python deploy/prometheus/prometheus_rule.py
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: segue
  labels: {release: prometheus}
spec:
"""


def build() -> str:
    """Return the manifest: the rules as they are, two columns further in."""
    rules = (Path(__file__).parent / "segue-rules.yml").read_text(encoding="utf-8")
    lines = rules[rules.index("groups:") :].splitlines()
    return HEAD + "".join(f"  {line}".rstrip() + "\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(build())
