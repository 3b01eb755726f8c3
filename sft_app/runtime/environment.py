"""Define the environment variables that the app reads and sets, and report what is installed.

All of our own variables, `SFT_APP_*`, are named only here, and so are others' variables that several parts read.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

# Set by the user who starts the app; the README describes them.

# The home folder, which holds runs, models and uploads; `workspace` in the current folder by default.
HOME_VARIABLE = "SFT_APP_HOME"
# `full`, `demo` or `zerogpu`: what is possible here, where the app detects the wrong mode.
MODE_VARIABLE = "SFT_APP_MODE"
# Comma-separated Hub names of people with the same rights on a Space as its owner.
ALLOWED_VARIABLE = "SFT_APP_ALLOWED"
# The adapter that a comparison Space shows.
ADAPTER_VARIABLE = "SFT_APP_ADAPTER"
# `name:password`, comma-separated: the logins that a self-hosted page accepts.
AUTH_VARIABLE = "SFT_APP_AUTH"
# Comma-separated host names that the page can be opened under, in addition to those the app knows.
ALLOWED_HOSTS_VARIABLE = "SFT_APP_ALLOWED_HOSTS"
# `1` offers the API to language models as MCP (Model Context Protocol) tools.
MCP_VARIABLE = "SFT_APP_MCP"
# Where runs are copied to: the path of a mounted folder, or `hf://buckets/USER/NAME[/PREFIX]`.
STORAGE_VARIABLE = "SFT_APP_STORAGE"
# A token with write access to that bucket; without it, `HF_TOKEN` is used.
STORAGE_TOKEN_VARIABLE = "SFT_APP_STORAGE_TOKEN"
# The key of the server whose model is asked to judge answers.
JUDGE_KEY_VARIABLE = "SFT_APP_JUDGE_KEY"
# A checkout of llama.cpp, whose converter is used to write GGUF files.
LLAMA_CPP_VARIABLE = "LLAMA_CPP_DIR"
# The token that logs in to the Hub, under both names that huggingface_hub accepts.
HUB_TOKEN_VARIABLE = "HF_TOKEN"
HUB_TOKEN_VARIABLES = (HUB_TOKEN_VARIABLE, "HUGGING_FACE_HUB_TOKEN")

# Set by the app for the processes it starts.

# The file descriptor of the run's lock, for the worker that inherits it.
RUN_LOCK_VARIABLE = "SFT_APP_RUN_LOCK"
# The pid of the process that starts the ranks of a multi-GPU run, for those ranks.
LAUNCHER_PID_VARIABLE = "SFT_APP_LAUNCHER_PID"

# Set by Hugging Face on a Space. Source: huggingface.co/docs/hub/spaces-overview, "Helper environment variables".

# The id of the Space, `owner/name`.
SPACE_ID_VARIABLE = "SPACE_ID"
# The owner of the Space.
SPACE_AUTHOR_VARIABLE = "SPACE_AUTHOR_NAME"
# The app's OAuth id for signing in with the Hub; set if the Space's card has `hf_oauth: true`.
OAUTH_CLIENT_VARIABLE = "OAUTH_CLIENT_ID"
# Whether the Space provides a GPU for one call at a time.
ZERO_GPU_VARIABLE = "SPACES_ZERO_GPU"

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate", "gradio")
PROJECT_DIR = Path(__file__).resolve().parents[2]
# The folder that contains `examples/`: the project's, or the package's if the package was installed on its own.
BUNDLED_DIR = PROJECT_DIR if (PROJECT_DIR / "examples").is_dir() else PROJECT_DIR / "sft_app"


def is_zero_gpu(environment: Mapping[str, str]) -> bool:
    """Return whether this is a ZeroGPU Space, by the same rule as the `spaces` package."""
    return environment.get(ZERO_GPU_VARIABLE, "").lower() in ("1", "t", "true")


def package_versions() -> dict[str, str]:
    """Return the versions of the libraries that affect a run's result."""
    return {package: version(package) for package in PACKAGES}
