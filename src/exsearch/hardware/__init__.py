"""The hardware of this machine: devices and memory."""
