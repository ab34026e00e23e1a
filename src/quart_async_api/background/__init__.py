"""Work that belongs to no request: asyncio tasks that outlive it, and loops that go on whatever they raise."""
