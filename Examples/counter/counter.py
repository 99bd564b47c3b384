import os
import time

count = 0
ballast = b""


def handle(event, context):
    """Counts calls in memory; `ballast_mb` makes it hold that much more, touched; `hold_ms` makes a call last."""
    global count, ballast
    if "ballast_mb" in event:
        ballast = bytearray(event["ballast_mb"] << 20)
        ballast[::4096] = b"\x01" * len(ballast[::4096])
    count += event.get("by", 1)
    time.sleep(event.get("hold_ms", 0) / 1000)
    return {"count": count, "ballast_mb": len(ballast) >> 20, "sum": sum(ballast[::4096]), "pid": os.getpid()}
