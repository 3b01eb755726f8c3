"""Define the settings of a run, once.

The form on the page, the options of the command line, `settings.json` and the trainer's arguments all come from
`RunSettings`.
"""

from sft_app.settings.data import COLUMN_ROLES, EXAMPLE_DATA, DataSettings, Format, Section
from sft_app.settings.method import CHATML, OWN_TEMPLATE, Method, TrainerKind
from sft_app.settings.parsing import (
    PRESETS,
    REMOVED_SETTINGS,
    choices_of,
    describe_faults,
    fields_of,
    parse_assignments,
    parse_settings,
    takes_none,
)
from sft_app.settings.recipe import (
    automatic_rate,
    replay_obstacle,
    replayed_conversations,
    rows_per_pass,
    with_recipe,
    with_schedule,
    without_replay_of_text,
)
from sft_app.settings.run import (
    EXAMPLE_ADAPTER,
    EXAMPLE_PROMPT,
    FORMER_PRESETS,
    Preset,
    RunSettings,
)

__all__ = [
    "CHATML",
    "COLUMN_ROLES",
    "EXAMPLE_ADAPTER",
    "EXAMPLE_DATA",
    "EXAMPLE_PROMPT",
    "FORMER_PRESETS",
    "PRESETS",
    "REMOVED_SETTINGS",
    "DataSettings",
    "Format",
    "OWN_TEMPLATE",
    "Method",
    "Preset",
    "RunSettings",
    "Section",
    "TrainerKind",
    "choices_of",
    "describe_faults",
    "fields_of",
    "parse_assignments",
    "parse_settings",
    "automatic_rate",
    "replay_obstacle",
    "replayed_conversations",
    "rows_per_pass",
    "takes_none",
    "with_recipe",
    "with_schedule",
    "without_replay_of_text",
]
