"""Graphs of past losses that a script's loop keeps alive."""

from nncheck.capture.onward import witnessed
from nncheck.capture.witnesses.kept_graphs import KeptGraphs as KeptGraphs
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe


@probe
def kept_graphs(sandbox: Sandbox) -> KeptGraphs:
    return witnessed(sandbox.setup, KeptGraphs)
