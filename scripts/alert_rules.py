"""Write the alert rules once more, as the resource that the Prometheus Operator reads.

Kustomize takes nothing from outside of its folder, and a resource has a head of its own.
"""

from pathlib import Path

TEMPLATE = Path(__file__).parent.parent / "template"
(COMPONENT,) = TEMPLATE.glob("deploy/*kubernetes*/components/prometheus-operator")
RESOURCE = COMPONENT / "alert-rules.yaml"
HEAD = """\
# What monitoring/rules/ holds for a Prometheus of your own, with its tests.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: models
spec:
  groups:
"""


def resource() -> str:
    """Return the resource: the groups of every file, a level deeper."""
    groups = ""
    for path in sorted(TEMPLATE.glob("monitoring/rules/*.yaml")):
        lines = path.read_text(encoding="utf-8").partition("\ngroups:\n")[2].splitlines()
        groups += "".join(f"  {line}".rstrip() + "\n" for line in lines)
    return HEAD + groups


if __name__ == "__main__":
    RESOURCE.write_text(resource(), encoding="utf-8")
