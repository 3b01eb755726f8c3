"""The home folder, environment variables, files, child processes, and the machine's memory and disk."""
