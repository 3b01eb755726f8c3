"""Check data before training: find faults, fix them, and measure the lengths of the conversations."""
