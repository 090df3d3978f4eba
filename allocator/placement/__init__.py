"""Floor 2: pure decisions. Which destinations a request may go to, in which order, and what its end is called."""
