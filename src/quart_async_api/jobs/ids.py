"""Ids that sort by time: UUID version 7 (RFC 9562 section 5.7)."""

import secrets
import time
import uuid


def new_id() -> str:
    """48 bits of Unix milliseconds, then 74 random ones."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
