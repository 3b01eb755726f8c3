"""How each check of the tests that people write judges an answer."""
