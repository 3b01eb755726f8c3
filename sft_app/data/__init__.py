"""Turn a file into token ids and labels: sources → formats → conversation → split → tokens."""
