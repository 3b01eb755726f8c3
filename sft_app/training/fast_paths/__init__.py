"""Compute training steps faster: attention, the loss head, fused functions and shared prefixes."""
