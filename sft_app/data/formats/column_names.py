"""What the name of a column suggests: that it asks or answers, or that it holds the good or the bad of two answers.

Names are written without accents and in small letters, as `plain` has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from sft_app.data.formats.profile import plain, word_set

Mark = Literal["good", "bad", ""]
Words = tuple[frozenset[str], ...]


def _words(*tiers: str) -> Words:
    return tuple(frozenset(plain(tier).split()) for tier in tiers)


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
"""Each in three tiers: what can mean nothing else; who speaks, often a column of names; what is said of much."""
ASIDE = word_set(
    "comment comments remark remarks note notes feedback reviewer rating score reason rationale explanation "
    "reasoning thought thinking cot subject title headline topic category status tag tags internal metadata url "
    "text content description product kommentar bemerkung notiz betreff titel thema kategorie commentaire "
    "remarque objet titre sujet comentario asunto titulo tema oggetto titolo"
)
"""Beside a question and its answer; taken for one of them only where nothing else is there."""
EDITED = word_set(
    "edited edit corrected correction final revised gold golden human improved reviewed fixed rewritten verified "
    "korrigiert korrektur korrigierte uberarbeitet uberarbeitete corrige corrigee corregida corregido"
)
DRAFTED = word_set(
    "draft drafted model generated original raw initial predicted prediction llm ai machine synthetic automatic auto "
    "suggested suggestion hallucinated baseline entwurf brouillon borrador gpt chatgpt llama qwen mistral claude "
    "mixtral gemini gemma phi deepseek vicuna falcon palm bard grok olmo smollm"
)
"""Of two answers the edited one is likelier to be meant than a draft, or what a model wrote."""
REFERENCES = word_set("reference ref truth groundtruth target expected")
TITLES = word_set("summary zusammenfassung resumen resume sommaire riassunto resumo")
DESCRIPTIONS = word_set("description beschreibung descripcion descrizione descricao")
"""Beside one of these a summary is the title of a ticket."""
CLASSES = word_set("sentiment label class emotion intent")
TWIN = re.compile(r"(.+[^a-z0-9][ _-]?|.+(?=\d))(?:[ab]|\d)")
FILLERS = ("", "text", "content", "message", "messages", "conversation", "one")
SYSTEM_NAMES = ("system", "system_prompt", "system_message", "system prompt")
BAD = re.compile(
    r"reject|declin|hallucinat|incorrect|dispref|unprefer|(non|not|un)[\W_]*(preferred|chosen|accepted|correct)|falsch|schlecht|abgelehnt"
    r"|rejet|mauvais|rechaz|rejeit|rifiut|scorrett"
    r"|(?<![a-z])(bad|worse|worst|wrong|los(er|ing|t)|disliked|negative|mal[ao]|incorrect[ao])(?![a-z])"
)
GOOD = re.compile(
    r"(?<![a-z])(chosen|prefer(red|ee|ida|ita)|accepted|winn(er|ing)|best|better|good|correct|gold(en)?|approved|positive"
    r"|selected|gewahlte?|bevorzugte?|gute?|beste|richtige?|choisie?|bonne|meilleure|elegid[ao]|buen[ao]|mejor|correct[ao]"
    r"|buon[ao]|melhor|escolhida)(?![a-z])"
)


def system_column(names: Iterable[str]) -> str:
    """Finds the column with the system prompt by its name; "" where none is called so."""
    return next((name for name in names if plain(str(name)) in SYSTEM_NAMES), "")


def asks(name: str) -> int:
    """How clearly a name says that its column asks, 0 to 6; 0 where it speaks rather of an answer."""
    return 0 if is_aside(name) else _lead(_rank(name, ASKING), _rank(name, ANSWERING))


def answers(name: str) -> int:
    """How clearly a name says that its column answers, 0 to 8; a mark of the good answer says it best."""
    found = mark(name)
    answering = _rank(name, ANSWERING)
    if found == "good" and (answering or GOOD.sub("", plain(name)).strip(" _-") in FILLERS):
        return 8
    return 0 if found == "bad" or is_aside(name) else _lead(answering, _rank(name, ASKING))


def is_exact_answer(name: str) -> bool:
    """The name says nothing but that: `Answer`, not `Answered by`."""
    return answers(name) in (6, 8)


def draft_order(name: str) -> int:
    """1 for an edited answer, -1 for a draft or a model's, 0 where the name does not say."""
    words = set(_split(name))
    return 1 if words & EDITED or mark(name) == "good" else -1 if words & DRAFTED else 0


def could_answer(name: str) -> bool:
    """Whether a column of sentences of that name may hold the answer, or another version of it."""
    if is_aside(name) or mark(name) == "bad":
        return False
    words = set(_split(name))
    is_version = bool(words & (EDITED | DRAFTED | REFERENCES))
    return is_version and (not asks(name) or "human" in words) or answers(name) >= 3 and not asks(name)


def is_speaker(name: str) -> bool:
    """`Agent`: who answers, as often as what."""
    return answers(name) in (3, 4)


def mark(name: str) -> Mark:
    called = plain(name)
    if BAD.search(called):
        return "bad"
    return "good" if GOOD.search(called) else ""


def twins(names: Sequence[str]) -> list[str]:
    """The names that differ from another only in a last letter or number: `answer_A` and `answer_B`, to be compared."""
    stems = {name: found[1] for name in names if (found := TWIN.fullmatch(plain(name)))}
    return [name for name, stem in stems.items() if list(stems.values()).count(stem) > 1]


def is_aside(name: str) -> bool:
    return any(word in ASIDE for word in _split(name))


def is_class(name: str) -> bool:
    return plain(name) in CLASSES


def _lead(rank: int, other: int) -> int:
    """The rank of a name of which something else can be said too: `Customer reply` is less clear than `Reply`."""
    if rank <= other:
        return 0
    return max(1, rank - 2) if other in (3, 4) else rank


def _rank(name: str, tiers: Words) -> int:
    """6, 4, 2 for a word of each tier, one less where it is only part of the name. Numbers (`Answer 2`) say nothing."""
    words = _split(name)
    called = " ".join(words)
    for tier, best in zip(tiers, (6, 4, 2), strict=True):
        if called in tier:
            return best
        if any(word in words or (word in called and (len(word) > 3 or not word.isascii())) for word in tier):
            return best - 1
    return 0


def _split(name: str) -> list[str]:
    return [word for word in re.split(r"[\W\d_]+", plain(name)) if word]
