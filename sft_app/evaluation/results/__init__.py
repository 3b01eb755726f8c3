"""What a whole scorecard shows: the findings that every sentence is made of, and the headline."""
