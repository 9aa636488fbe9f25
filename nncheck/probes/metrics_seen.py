"""What a script's own accuracy becomes on perfect predictions."""

from nncheck.capture.onward import witnessed
from nncheck.capture.witnesses.metrics_seen import Metric as Metric, MetricsSeen as MetricsSeen
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe


@probe
def metrics_seen(sandbox: Sandbox) -> MetricsSeen:
    return witnessed(sandbox.setup, MetricsSeen)
