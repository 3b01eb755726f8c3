"""Turn rows into conversations: `detection` finds the layout, `registry` describes it, `converters` convert it."""
