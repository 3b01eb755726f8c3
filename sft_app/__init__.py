"""Fine-tune & Compare: adapt a chat model to your own examples, and see what changed."""

from sft_app import quick_imports

quick_imports.install()  # before any part of the app can import what it makes quicker
