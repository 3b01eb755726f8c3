"""The page: four tabs that read run folders and drop requests into them. Nothing here trains."""
