"""The one place that talks to the Hugging Face Hub: whose login is used, ids, requests, and its errors in our words."""
