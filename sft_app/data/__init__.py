"""From a file to token ids and labels: sources → formats → conversation → split → tokens."""
