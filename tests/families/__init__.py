"""Every family of decoders that people bring, as tiny random models, and what this app makes of each."""
