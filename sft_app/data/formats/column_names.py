"""Rate column names: how clearly a name says question or answer, or the better or worse of two answers.

Names are in lower case and without accents, as returned by `normalize`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from sft_app.data.formats.column_profiles import normalize, word_set

AnswerMark = Literal["good", "bad", ""]
Words = tuple[frozenset[str], ...]


def _words(*tiers: str) -> Words:
    return tuple(frozenset(normalize(tier).split()) for tier in tiers)


ASKING = _words(
    "question questions query prompt instruction inquiry enquiry request problem task input "
    "frage anfrage eingabe aufgabe demande consigne pregunta consulta domanda richiesta vraag pergunta duvida fraga "
    "sporgsmal pytanie soru вопрос 问题 提问 問題 質問 질문 سؤال السؤال",
    "user human customer client patient student visitor caller asker buyer guest kunde kundin patientin cliente "
    "usuario utilisateur klant",
    "message ask source article document dialogue dialog passage sentence review tweet ticket complaint context "
    "nachricht mensaje messaggio",
)
ANSWERING = _words(
    "answer answers response completion output reply replies solution resolution summary highlights sentiment "
    "antwort ausgabe losung zusammenfassung reponse sortie respuesta solucion salida risposta antwoord resposta saida "
    "svar odpowiedz cevap ответ 答案 回答 回复 答复 答え 답변 جواب الجواب إجابة الإجابة",
    "assistant agent bot support chatbot gpt doctor teacher expert advisor staff helper berater mitarbeiter soporte "
    "agente",
    "target label",
)
"""In three tiers: unambiguous words; words for the speaker, often a column of names; words with many meanings."""
SIDE_NOTES = word_set(
    "comment comments remark remarks note notes feedback reviewer rating score reason rationale explanation "
    "reasoning thought thinking cot subject title headline topic category status tag tags internal metadata url "
    "kommentar bemerkung notiz betreff titel thema kategorie commentaire intern interne interno erklarung "
    "remarque objet titre sujet comentario asunto titulo tema oggetto titolo"
)
"""Columns that come along with a question and its answer, and are used as either only if nothing else is there."""
VAGUE = word_set("text content description product")
"""Side notes too, unless the name has a word for question or answer: `reply text`."""
ABOUT_TEXTS = word_set(
    "time date source by id ids length language lang type count number no zeit datum quelle lange sprache typ anzahl "
    "nummer fecha fuente idioma heure langue"
)
"""Facts about a text if the name ends in one of them: `answer_source`, `response time`; not `source` alone."""
EDITED = word_set(
    "edited edit corrected correction final revised gold golden human improved reviewed fixed rewritten verified "
    "korrigiert korrektur korrigierte uberarbeitet uberarbeitete corrige corrigee corregida corregido"
)
DRAFTED = word_set(
    "draft drafted model generated original raw initial predicted prediction llm ai machine synthetic automatic auto "
    "suggested suggestion hallucinated baseline entwurf brouillon borrador gpt chatgpt llama qwen mistral claude "
    "mixtral gemini gemma phi deepseek vicuna falcon palm bard grok olmo smollm"
)
"""Of two answers, the edited one is more likely to be intended than a draft or a model's output."""
REFERENCES = word_set("reference ref truth groundtruth target expected")
SUMMARY_WORDS = word_set("summary zusammenfassung resumen resume sommaire riassunto resumo")
DESCRIPTION_WORDS = word_set("description beschreibung descripcion descrizione descricao")
"""Next to one of these, a summary is the title of a ticket."""
AVOIDED = word_set("unsafe harmful toxic old init initial previous alt alte ancienne antigua vecchia intern internal")
"""With these words or those of a draft, an answer is hardly the one that a person wants."""
CONTEXTS = ("context", "article", "passage", "document", "schema", "background", "kontext", "contexte", "contexto")
CLASSES = word_set("sentiment label class emotion intent")
PAIRED_NAME = re.compile(r"(.+[^a-z0-9][ _-]?|.+(?=\d))(?:[ab]|\d)")
MAX_COLUMNS_LISTED = 8
NAME_SHOWN = 40
FILLERS = ("", "text", "content", "message", "messages", "conversation", "one")
SYSTEM_NAMES = (
    *("system", "system_prompt", "system_message", "system prompt", "system_instruction", "system_instructions"),
    *("systeminstruction", "systeminstructions", "systemprompt", "systemmessage", "meta_instruction"),
)
BAD_NAME = re.compile(
    r"reject|declin|hallucinat|incorrect|dispref|unprefer|(non|not|un)[\W_]*(preferred|chosen|accepted|correct)|falsch|schlecht|abgelehnt"
    r"|rejet|mauvais|rechaz|rejeit|rifiut|scorrett"
    r"|(?<![a-z])(bad|worse|worst|wrong|los(er|ing|t)|disliked|negative|mal[ao]|incorrect[ao])(?![a-z])"
)
GOOD_NAME = re.compile(
    r"(?<![a-z])(chosen|prefer(red|ee|ida|ita)|accepted|winn(er|ing)|best|better|good|correct|gold(en)?|approved|positive"
    r"|selected|gewahlte?|bevorzugte?|gute?|beste|richtige?|choisie?|bonne|meilleure|elegid[ao]|buen[ao]|mejor|correct[ao]"
    r"|buon[ao]|melhor|escolhida)(?![a-z])"
)


def in_backticks(names: Sequence[str], most: int = MAX_COLUMNS_LISTED) -> str:
    """Name columns in a sentence, shortened, because a file without a header has its first row as names."""
    shown = ", ".join(f"`{one_line(name)}`" for name in names[:most]) or "(none)"
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def one_line(name: str) -> str:
    """Shorten a name, which may be a whole paragraph, to one line."""
    name = " ".join(name.split())
    return name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]}…"


def system_column(names: Iterable[str]) -> str:
    """Find the column with the system prompt by its name; "" if there is none."""
    return next((name for name in names if re.sub(r"[\s-]+", "_", normalize(str(name))) in SYSTEM_NAMES), "")


def question_score(name: str) -> int:
    """Rate how clearly a name says question, 0 to 6; 0 if it says answer instead."""
    return 0 if is_side_note(name) else _lowered(_rank(name, ASKING), _rank(name, ANSWERING))


def answer_score(name: str) -> int:
    """Rate how clearly a name says answer, 0 to 8; a name for the better of two answers is the clearest."""
    mark = answer_mark(name)
    answering = _rank(name, ANSWERING)
    if mark == "good" and (answering or GOOD_NAME.sub("", normalize(name)).strip(" _-") in FILLERS):
        return 8
    return 0 if mark == "bad" or is_side_note(name) else _lowered(answering, _rank(name, ASKING))


def is_exact_answer(name: str) -> bool:
    """Return whether a name can only mean an answer: `Answer`, but not `Answered by`."""
    return answer_score(name) in (6, 8)


def draft_order(name: str) -> int:
    """Rank versions of an answer by name: 1 for an edited one, -1 for a draft or a model's, 0 if unclear."""
    words = set(_words_of(name))
    return 1 if words & EDITED or answer_mark(name) == "good" else -1 if words & DRAFTED else 0


def is_avoided(name: str) -> bool:
    """Return whether a name says that its answers are old, unsafe, drafted or bad, so that nobody is told to use it."""
    return bool(set(_words_of(name)) & AVOIDED) or draft_order(name) < 0 or answer_mark(name) == "bad"


def is_truth(name: str) -> bool:
    """Return whether a name means the right answer, which a model's is compared with: `ground_truth`."""
    return bool(set(_words_of(name)) & {"truth", "groundtruth"})


def could_answer(name: str) -> bool:
    """Return whether a column of sentences with this name may hold the answer or a version of it."""
    if is_side_note(name) or answer_mark(name) == "bad":
        return False
    words = set(_words_of(name))
    is_version = bool(words & (EDITED | DRAFTED | REFERENCES))
    return (
        is_version
        and (not question_score(name) or "human" in words)
        or answer_score(name) >= 3
        and not question_score(name)
    )


def is_speaker(name: str) -> bool:
    """Return whether a name may be the person who answers as well as the answer, such as `Agent`."""
    return answer_score(name) in (3, 4)


def answer_mark(name: str) -> AnswerMark:
    """Return "good" if a name means the better of two answers, "bad" if the worse one, "" if neither."""
    called = normalize(name)
    if BAD_NAME.search(called):
        return "bad"
    return "good" if GOOD_NAME.search(called) else ""


def paired_names(names: Sequence[str]) -> list[str]:
    """Find names that differ only in their last letter or number, such as `answer_A` and `answer_B`."""
    stems = {name: found[1] for name in names if (found := PAIRED_NAME.fullmatch(normalize(name)))}
    return [name for name, stem in stems.items() if list(stems.values()).count(stem) > 1]


def is_side_note(name: str) -> bool:
    """Return whether a name means a remark, a title or similar rather than a question or an answer."""
    if is_remark(name):
        return True
    return bool(VAGUE & set(_words_of(name))) and not (_rank(name, ASKING) or _rank(name, ANSWERING))


def is_remark(name: str) -> bool:
    """Return whether a name can only mean a remark, a title or a fact about a text: `explanation`, `response time`."""
    words = _words_of(name)
    return any(word in SIDE_NOTES for word in words) or len(words) > 1 and words[-1] in ABOUT_TEXTS


def is_class(name: str) -> bool:
    """Return whether a name means a class label, such as `sentiment`."""
    return normalize(name) in CLASSES


def _lowered(rank: int, other: int) -> int:
    """Lower the rank of a name that also means something else: `Customer reply` is less clear than `Reply`."""
    if rank <= other:
        return 0
    return max(1, rank - 2) if other in (3, 4) else rank


def _rank(name: str, tiers: Words) -> int:
    """Rank a name 6, 4 or 2 by the tier of its word, and one less if the word is only part of the name."""
    words = _words_of(name)
    called = " ".join(words)
    for tier, best in zip(tiers, (6, 4, 2), strict=True):
        if called in tier:
            return best
        if any(word in words or (word in called and (len(word) > 3 or not word.isascii())) for word in tier):
            return best - 1
    return 0


def _words_of(name: str) -> list[str]:
    return [word for word in re.split(r"[\W\d_]+", normalize(name)) if word]
