"""What `scripts/endurance.py` does: fuzz, chaos, a long stream, and limits."""
