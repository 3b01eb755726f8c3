"""Which requests are answered, who asks, and what they may do."""
