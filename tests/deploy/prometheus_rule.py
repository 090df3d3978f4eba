"""The rules as the Prometheus operator takes them: `python -m tests.deploy.prometheus_rule` writes them anew.

In: the rule files. Out: `deploy/prometheus/operator/prometheusrule.yaml`, which a test holds to them.
"""

from __future__ import annotations

from tests.deploy.observed import PROMETHEUS, RULES

WRITTEN = PROMETHEUS / "operator" / "prometheusrule.yaml"
_HEAD = """\
# Made from ../recording.rules.yml and ../alerts.rules.yml by python -m tests.deploy.prometheus_rule
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: allocator
  labels: { app.kubernetes.io/name: allocator }
spec:
"""


def rendered() -> str:
    """The whole file: the groups as their files say them, one level deeper."""
    groups: list[str] = []
    for path in RULES:
        text = path.read_text(encoding="utf-8")
        groups.append(text.partition("\ngroups:\n")[2].strip("\n"))
    lines = "\n\n".join(groups).split("\n")
    return _HEAD + "  groups:\n" + "".join(f"  {line}\n" if line else "\n" for line in lines)


if __name__ == "__main__":
    WRITTEN.write_text(rendered(), encoding="utf-8")
