"""Lines of a script's loop that make the host wait for the device."""

from nncheck.capture.onward import witnessed
from nncheck.capture.witnesses.device_waits import AskingLine as AskingLine, DeviceWaits as DeviceWaits
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe


@probe
def device_waits(sandbox: Sandbox) -> DeviceWaits:
    return witnessed(sandbox.setup, DeviceWaits)
