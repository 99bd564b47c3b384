import time


def handle(event, context):
    """Takes `mb` mebibytes, touches every page, holds them for `hold_ms`, and gives them back."""
    taken = bytearray(event.get("mb", 64) << 20)
    taken[::4096] = b"\x01" * len(taken[::4096])
    time.sleep(event.get("hold_ms", 0) / 1000)
    return {"took_mb": len(taken) >> 20, "pages": sum(taken[::4096])}
