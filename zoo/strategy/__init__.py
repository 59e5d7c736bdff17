"""Model and data → which parts learn, from what start, how fast."""
