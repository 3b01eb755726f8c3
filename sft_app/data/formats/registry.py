"""The layouts of data files that the app reads. To add a layout, add a record to `LAYOUTS`.

Detection, conversion, the page's choices and the README's table all come from these records. The setting `format`
(`settings.Format`) repeats the names, because `settings` cannot import `data`; a test compares the two.
"""

from __future__ import annotations

from sft_app.data.formats.converters import (
    batches,
    candidates,
    chat,
    code_contests,
    exports,
    intents,
    message_rows,
    preference,
    reply_trees,
    tables,
)
from sft_app.data.formats.converters.tables import ColumnMap
from sft_app.data.formats.layout import Converter, Layout, table_layout
from sft_app.errors import DataError
from sft_app.settings import DataSettings

_LAYOUTS = (
    Layout(
        name="messages",
        label="Messages with roles (OpenAI)",
        documentation="`messages`, with system, developer, user, assistant and tool turns, content parts, "
        "tool calls, `weight: 0`",
        examples=("messages.jsonl",),
        convert=chat.from_messages,
        columns_read=chat.messages_columns,
        recognise=chat.role_column,
        evidence="every row contains a list of messages with `role`",
    ),
    Layout(
        name="sharegpt",
        label="ShareGPT: from / value",
        documentation="`conversations`, with `from` and `value`",
        examples=("sharegpt.json",),
        convert=chat.from_messages,
        columns_read=chat.messages_columns,
        recognise=chat.from_column,
        evidence="every row contains a list of turns with `from` and `value`",
    ),
    Layout(
        name="prompt_completion",
        label="Prompt / completion",
        documentation="`prompt`, `completion`: texts or messages",
        examples=("prompt_completion.jsonl",),
        convert=chat.from_prompt_completion,
        columns_read=chat.prompt_completion_columns,
        recognise=chat.completion_column,
        evidence="`prompt` and `completion` contain the question and the answer",
        column_maps=(ColumnMap("prompt", "completion"),),
        columns_are="a prompt and its completion",
        is_exchange=True,
        precedence=-1,
    ),
    # Source: stanford_alpaca, README.
    table_layout(
        "alpaca",
        "Alpaca: instruction / input / output",
        "`instruction`, `output`, also `input`",
        "alpaca.json",
        "those of Alpaca",
        ColumnMap("instruction", "output", context="input"),
    ),
    # Source: databricks-dolly-15k, dataset card.
    table_layout(
        "dolly",
        "Dolly: instruction / context / response",
        "`instruction`, `response`, also `context`",
        "dolly.jsonl",
        "those of Dolly",
        ColumnMap("instruction", "response", context="context"),
    ),
    # Source: teknium1/GPTeacher; its README says `output`, its files `response`.
    table_layout(
        "gpteacher",
        "GPTeacher: instruction / input / response",
        "`instruction`, `response` or `output`, also `input`",
        "gpteacher.json",
        "those of GPTeacher",
        *(ColumnMap("instruction", answer, context="input") for answer in ("response", "output")),
    ),
    # Source: nomic-ai/gpt4all-j-prompt-generations, dataset card.
    table_layout(
        "gpt4all",
        "GPT4All: prompt / response",
        "`prompt`, `response`",
        "gpt4all.jsonl",
        "those of GPT4All",
        ColumnMap("prompt", "response"),
    ),
    # Source: Open-Orca/OpenOrca, dataset card, for the system prompt.
    table_layout(
        "question_answer",
        "Question / answer",
        "`question` or `query`, `answer` or `response`, also `system_prompt`",
        "question_answer.csv",
        "a question and its answer",
        *(
            ColumnMap(question, answer, system="system_prompt")
            for question in ("question", "query")
            for answer in ("answer", "response")
        ),
    ),
    Layout(
        name="preference",
        label="Preference: chosen / rejected",
        documentation="`chosen`, `preferred_output` …: texts, messages or dialogues. The rejected answer is never "
        "trained on; rows with `label: false` are skipped and counted",
        examples=("preference.jsonl",),
        convert=preference.from_preference,
        columns_read=preference.preference_columns,
        recognise=preference.chosen_column,
        evidence="`{}` contains the better of two answers",
        precedence=1,  # the prompt may be a list of messages too
    ),
    Layout(
        name="candidates",
        label="Ranked answers",
        documentation="`prompt`, `responses` with `rank` or `score`: only the best answer is trained on",
        examples=("candidates.jsonl",),
        convert=candidates.from_candidates,
        columns_read=candidates.candidates_columns,
        recognise=candidates.candidates_column,
        evidence="`{}` lists several answers to a question",
        precedence=-3,
        notes=candidates.candidates_notes,
    ),
    Layout(
        name="turns",
        label="Other chats (trainers, providers, exports)",
        documentation="lists of turns of any shape: speaker / text, question and answer in pairs, texts in turn, "
        "Gemini, Bedrock, LangChain, Firefly, XTuner, UltraChat, LIMA, MOSS, exports of ChatGPT and Claude, "
        "logs of API calls",
        examples=("turns.jsonl",),
        convert=chat.from_messages,
        columns_read=chat.messages_columns,
        recognise=chat.turns_column,
        evidence="`{}` contains the turns of a conversation",
        precedence=-2,
    ),
    Layout(
        name="message_rows",
        label="One message per row",
        documentation="a speaker and a text per row, also a conversation id, a turn or a time: chats exported from "
        "Discord, Telegram, Slack, WhatsApp and help desks; `assistant=NAME` says who answers",
        examples=("message_rows.csv",),
        convert=message_rows.from_single_row,
        columns_read=message_rows.message_columns,
        has_answers=False,
        notes=message_rows.message_notes,
        is_part=message_rows.is_message,
        convert_rows=message_rows.conversations_of_messages,
    ),
    Layout(
        name="exports",
        label="Exports of help desks and annotation tools",
        documentation="JSON of Zendesk, Freshdesk, Intercom, Front, Discourse, Label Studio, Argilla and Prodigy; "
        "internal notes are left out",
        examples=("exports.json",),
        convert=exports.from_export,
        columns_read=exports.export_columns,
        recognise=exports.export_column,
        evidence="`{}` is that of an export of a help desk, a forum or an annotation tool",
        precedence=2,
        has_answers=False,
        notes=exports.left_out_notes,
    ),
    Layout(
        name="openai_batch",
        label="OpenAI batch",
        documentation="`custom_id` with `body` and with `response`: the lines of the input and of the output file",
        examples=("openai_batch.jsonl",),
        convert=batches.from_batch_line,
        columns_read=batches.batch_columns,
        recognise=batches.batch_column,
        evidence="every row is a line of an OpenAI batch",
        precedence=2,
        has_answers=False,
        is_part=batches.is_batch_line,
        convert_rows=batches.conversations_of_batch,
    ),
    Layout(
        name="intents",
        label="Intents: patterns / responses",
        documentation="`patterns`, `responses`: each pattern with each of its responses",
        examples=("intents.json",),
        convert=intents.from_intents,
        columns_read=intents.intent_columns,
        recognise=intents.patterns_column,
        evidence="`{}` and `responses` are those of a chatbot's intents",
        has_answers=False,
    ),
    Layout(
        name="oasst",
        label="OASST: reply trees",
        documentation="messages in any order, or trees; by language; the best-ranked replies or every path",
        examples=("oasst_rows.jsonl", "oasst_trees.jsonl"),
        convert=reply_trees.from_reply_tree,
        recognise=reply_trees.tree_column,
        evidence="the rows are messages of reply trees (OASST)",
        has_answers=False,
        is_part=reply_trees.is_tree_message,
        convert_rows=reply_trees.conversations_of_rows,
    ),
    Layout(
        name="code_contests",
        label="CodeContests (AlphaCode)",
        documentation="`description`, `solutions`; by programming language; never the private tests",
        examples=("code_contests.json",),
        convert=code_contests.from_code_contests,
        recognise=code_contests.solutions_column,
        evidence="`description` and `solutions` are the columns of CodeContests (AlphaCode)",
        has_answers=False,
    ),
    Layout(
        name="text",
        label="Plain text (no chat)",
        documentation="`text`, or a `.txt` file: trained on from beginning to end, without a chat format",
        examples=("text.txt",),
        convert=tables.from_text,
        columns_read=tables.text_columns,
        has_answers=False,
    ),
    Layout(
        name="columns",
        label="Table (choose the columns)",
        documentation="any table: `user=COLUMN`, `assistant=COLUMN`, also `system=` and `context=`",
        examples=("own_columns.tsv",),
        convert=tables.from_chosen_columns,
        columns_read=tables.chosen_columns,
        is_exchange=True,
    ),
)

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in _LAYOUTS}
"""Every layout by its name, in the order of the page's list of choices."""


def layouts_to_detect() -> list[Layout]:
    """List the layouts in the order in which they are tried; the first that fits is used."""
    return sorted(LAYOUTS.values(), key=lambda layout: -layout.precedence)


def converter(settings: DataSettings) -> Converter:
    """Return the converter of the layout in the settings, which must not be `auto`.

    Raises:
        DataError: the layout is a table whose columns have not been chosen.
    """
    if settings.format == "columns" and not settings.columns:
        raise DataError(
            "No columns have been chosen for the question and the answer. Choose them with user=COLUMN and "
            "assistant=COLUMN."
        )
    return LAYOUTS[settings.format].convert
