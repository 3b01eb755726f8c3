"""Turns rows into conversations: `detection` finds the layout, `registry` knows each, `converters` convert it."""
