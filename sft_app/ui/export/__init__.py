"""The Export tab: download a run's model, or push it to the Hub."""
