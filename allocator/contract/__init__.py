"""Floor 0: the words users see. Requests, allocations, events, codes, keys; nothing here does I/O."""
