"""The versions of the libraries that decide how a run turns out."""

from importlib.metadata import version

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate", "gradio")


def package_versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}
