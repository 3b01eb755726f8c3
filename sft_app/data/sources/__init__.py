"""Files and data sets of the Hub to numbered rows, in bounded memory; what cannot be read is told with its place."""
