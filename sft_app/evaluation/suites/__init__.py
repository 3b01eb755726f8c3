"""Tests that people write: files of them, their results on two sides, and those kept with a run."""
