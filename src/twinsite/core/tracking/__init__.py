"""What the secondary lacks: dirty maps and what was sent and not acknowledged."""
