"""The secrets that tests use: none of them may ever be in a log."""

_SECRETS: set[str] = set()


def secret(text: str) -> str:
    """Remember that `text` is one."""
    _SECRETS.add(text)
    return text


def in_the_open(log: str) -> list[str]:
    """Those that are in the log."""
    return sorted(text for text in _SECRETS if text in log)
