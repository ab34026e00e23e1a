"""What one peer may cost."""

import time


class Budget:
    """Holds `most` at first and at any time, and gets `per_second` back."""

    def __init__(self, most: float, per_second: float) -> None:
        self._most = most
        self._per_second = per_second
        self._left = most
        self._at = time.monotonic()

    def take(self, cost: float = 1) -> bool:
        """Spend `cost`. False: that is more than was left."""
        now = time.monotonic()
        self.earn((now - self._at) * self._per_second)
        self._at = now
        self._left -= cost
        return self._left >= 0

    def earn(self, amount: float) -> None:
        """Add `amount`, up to the most that it holds."""
        self._left = min(self._most, self._left + amount)
