"""What is wrong with the data, what can be done about it, and how long the conversations are."""
