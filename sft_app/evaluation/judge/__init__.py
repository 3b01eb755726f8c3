"""A model that judges pairs of answers, and how well it agrees with people's votes."""
