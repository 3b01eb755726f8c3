"""Words in the cells and names of columns that label answers as good or bad."""

from __future__ import annotations

from sft_app.data.formats.column_profiles import normalize, word_set


def _words(text: str) -> frozenset[str]:
    return word_set(normalize(text))


CLEAR_GOOD = _words(
    "good great excellent ok correct right accurate accepted accept acceptable approved approve desirable chosen "
    "preferred pass passed liked helpful upvote upvoted thumbs_up thumb_up thumbup thumbsup 👍 ✓ ✔ ✅ "
    "better best win gut richtig korrekt "
    "angenommen akzeptiert freigegeben hilfreich bon bonne correcte approuve accepte juste correcto correcta bueno "
    "buena aprobado aceptado corretto giusto buono approvato accettato bom boa certo aprovado goed juist 正确 好 "
    "правильно верно хорошо"
)
CLEAR_BAD = _words(
    "bad poor terrible awful incorrect wrong inaccurate rejected reject declined disapproved denied undesirable "
    "unacceptable unapproved not_approved not_accepted not_ok not_good not_correct not_helpful unchosen dispreferred "
    "fail failed disliked unhelpful downvote downvoted thumbs_down thumb_down thumbdown thumbsdown 👎 ✗ ✘ ❌ "
    "worse worst lose schlecht falsch "
    "inkorrekt abgelehnt mauvais mauvaise incorrecte faux rejete refuse incorrecto incorrecta malo mala rechazado "
    "scorretto sbagliato rifiutato errado ruim rejeitado fout slecht 错误 坏 差 неправильно неверно плохо"
)
SENTIMENTS_GOOD = _words("positive positiv positif positivo positiva")
SENTIMENTS_BAD = _words("negative negativ negatif negativo negativa")
UNMISTAKABLE = _words("undesirable dispreferred thumbs_down thumb_down thumbsdown 👎")
"""These label an answer under any column name."""
WEAK_GOOD = _words("true 1 yes y t up like hoch ja oui si sim 是 да")
WEAK_BAD = _words("false 0 -1 no n f down dislike runter nein non nao nee 否 нет")
"""These only answer what the column's name asks."""
GOOD = CLEAR_GOOD | WEAK_GOOD | SENTIMENTS_GOOD
BAD = CLEAR_BAD | WEAK_BAD | SENTIMENTS_BAD

NO_MEANS_BAD = _words(
    "good correct right accurate approved approve accept accepted acceptable desirable liked like preferred chosen "
    "selected helpful useful thumb thumbs up pass passed upvote upvoted richtig korrekt gut freigegeben akzeptiert "
    "angenommen hilfreich approuve accepte bon bonne correcte utile juste aprobado aceptado bueno buena correcto "
    "correcta util corretto giusto buono goed 正确 правильно верно "
    "use freigabe genehmigt validee validado validada convalidato convalidata approvata approuvee aprobada aprovada"
)
DISCARDED = _words("deleted removed geloscht entfernt supprime supprimee eliminado eliminada spam")
"""A row with one of these marks is not wanted any more; in most files, no row has one."""
YES_MEANS_BAD = DISCARDED | _words(
    "bad wrong incorrect inaccurate rejected reject declined down disliked dislike undesirable unhelpful flagged flag "
    "downvote downvoted fail failed falsch schlecht abgelehnt inkorrekt mauvais mauvaise incorrecte faux rejete malo "
    "mala incorrecto rechazado scorretto sbagliato errado 错误 неправильно"
)
NOT = _words("not nicht pas")
CLASS_NAMES = _words("label sentiment class emotion intent")
"""A column with one of these names is as often a class of the text as a verdict on the answer."""
OPINIONS = _words(
    "label labels verdict evaluation eval judgement judgment feedback vote votes preference kto reaction thumb thumbs "
    "daumen"
)
"""Under these names, a plain yes or no is about the answer."""
ORDINARY = _words(
    "urgent dringend public private active inactive paid vip new customer customers client clients kunde kunden "
    "caller offentlich aktiv neu"
)
"""Under a name with one of these, a yes or no, or a sentiment, is a fact about the case or its customer."""
MESSAGE_VERDICTS = OPINIONS - CLASS_NAMES - {"labels", "preference"}
"""Names under which a message in a list may hold a verdict of its own."""
RATES = _words(
    "rating ratings rate score scores star stars quality reward rewards helpfulness correctness coherence usefulness "
    "accuracy relevance satisfaction rank bewertung note puntuacion valoracion valutazione avaliacao оценка "
    "评价 评分 评级"
)
JUDGES = RATES | _words(
    "status state grade review result outcome decision assessment check tag mark annotation comparison qa qc qualitat "
    "urteil ergebnis beurteilung calidad qualite moderation curation audit validation type kind judge "
    "hallucinated hallucination toxic toxicity harmful unsafe safe valid invalid keep include exclude skip usable"
)
"""Under these names, a word that can only be a judgement is about the answer."""
NEUTRAL_NAME_WORDS = _words(
    "is was are the of by for an it user users human model ai bot llm assistant agent gpt expert annotator reviewer "
    "rater admin moderator editor final overall answer answers response responses reply completion output antwort "
    "reponse respuesta risposta resposta metadata meta info extra extras data value values name text key field column "
    "col var unnamed attributes properties annotations details additional quick binary ist die der "
    "training finetuning das est la le"
)
"""Words in a name that do not say what is judged, or say that it is the answer."""
