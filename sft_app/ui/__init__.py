"""The page: five tabs that read run folders and write requests to them. No training happens here."""
