"""Ask the Hugging Face Hub with the right login, and turn its errors into messages."""
