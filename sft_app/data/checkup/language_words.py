"""Words and letters that tell languages apart, and the names that people use for them."""

from __future__ import annotations

import re

FUNCTION_WORDS = {
    "en": "the and of to is are was were with that this for your you have has will would can from it be not on at or "
    "by an as if they we our but which please there their what when how",
    "de": "der die das und ist sind war mit nicht ein eine einen einem einer für auf von dem den des zu zum zur sich "
    "auch werden wird wir sie ihr ihre ihnen haben hat bei oder wenn dass nach über bitte aber kann können im "
    "am es",
    "fr": "le la les des du et est sont avec pas une un pour dans sur que qui vous nous votre vos nos ce cette ces "
    "au aux il elle plus ne se par ou mais si être avez avons à était",
    "es": "el la los las de y es son con no una un para en que su sus por se lo del al como más pero si está este "
    "esta usted ha han o muy puede le nos nuestro también",
    "it": "il lo la gli le di e è sono con non una un per in che si da del della dei delle nel nella al alla come "
    "più ma se questo questa ha hanno anche può ci ti vi",
    "pt": "o a os as de e é são com não uma um para em que se do da dos das no na nos nas ao como mais mas por seu "
    "sua você está este esta foi pode ou também",
    "nl": "de het een en van is zijn met niet voor op dat dit te die aan er ook om bij uw wij we u hebben heeft "
    "wordt worden kan kunnen naar als maar of door over",
    "sv": "och att det är som en ett den för med på av inte har till vi du de om kan från vara eller ska din ditt "
    "dina när men så här blir var",
    "da": "og at det er som en et den for med på af ikke har til vi du de om kan fra være eller skal din dit dine "
    "når men så her bliver var hvis hvad noget",
    "pl": "i w na z do nie się jest są to że jak o po od dla przez ale czy za oraz który która które może jego jej "
    "tym tego ten być przy",
    "cs": "a v na s z do se je jsou to že jak o po od pro ale nebo který která které může jeho její tím být při jsme "
    "vás také není",
    "tr": "ve bir bu için ile da de çok ne daha olarak olan gibi kadar değil ama veya var yok sonra en her size biz "
    "siz",
    "fi": "ja on ei se että joka myös kun mutta tai ovat voi olla sen ole hän niin kuin jos nyt sekä jotka tämä",
    "hu": "a az és nem hogy egy is van volt meg de csak ez azt mint vagy már ha kell el még lesz után",
    "ro": "și de la în cu pe nu este sunt un o care pentru din se ce mai să au fost sau dar dacă prin vă",
    "id": "yang dan di ini itu dengan untuk tidak dari dalam akan pada juga adalah ke atau bisa anda kami karena oleh",
    "vi": "và của là có không được cho trong với một các này để người những khi đã từ bạn tôi về cũng",
}
LANGUAGE_NAMES = {
    "en": (
        "English",
        "englisch",
        "anglais",
        "inglés",
        "inglese",
        "inglês",
        "engels",
        "английск",
        "英语",
        "英文",
        "英語",
    ),
    "de": ("German", "deutsch", "allemand", "alemán", "tedesco", "alemão", "duits", "немецк", "德语", "ドイツ語"),
    "fr": ("French", "französisch", "français", "francés", "francese", "francês", "frans", "французск", "法语"),
    "es": ("Spanish", "spanisch", "espagnol", "español", "spagnolo", "espanhol", "spaans", "испанск", "西班牙"),
    "it": ("Italian", "italienisch", "italien", "italiano", "italiaans", "итальянск", "意大利"),
    "pt": ("Portuguese", "portugiesisch", "portugais", "portugués", "portoghese", "português", "португальск", "葡萄牙"),
    "nl": ("Dutch", "niederländisch", "holländisch", "néerlandais", "neerlandés", "olandese", "holandês", "nederlands"),
    "sv": ("Swedish", "schwedisch", "suédois", "sueco", "svedese", "svenska"),
    "da": ("Danish", "dänisch", "danois", "danés", "danese", "dansk"),
    "no": ("Norwegian", "norwegisch", "norvégien", "noruego", "norsk"),
    "nb": ("Norwegian", "norwegisch", "bokmål", "norsk"),
    "nn": ("Norwegian", "norwegisch", "nynorsk", "norsk"),
    "pl": ("Polish", "polnisch", "polonais", "polaco", "polacco", "polski", "polsku"),
    "cs": ("Czech", "tschechisch", "tchèque", "checo", "čeština", "česky"),
    "tr": ("Turkish", "türkisch", "turc", "turco", "türkçe"),
    "fi": ("Finnish", "finnisch", "finnois", "finlandés", "suomi", "suomeksi"),
    "hu": ("Hungarian", "ungarisch", "hongrois", "húngaro", "magyar"),
    "ro": ("Romanian", "rumänisch", "roumain", "rumano", "română"),
    "id": ("Indonesian", "indonesisch", "indonésien", "bahasa"),
    "vi": ("Vietnamese", "vietnamesisch", "vietnamien", "tiếng việt"),
    "ru": ("Russian", "russisch", "russe", "ruso", "russo", "русск", "俄语"),
    "uk": ("Ukrainian", "ukrainisch", "ukrainien", "українськ"),
    "bg": ("Bulgarian", "bulgarisch", "bulgare", "българск"),
    "el": ("Greek", "griechisch", "grec", "griego", "ελληνικ"),
    "zh": ("Chinese", "chinesisch", "mandarin", "chinois", "chino", "cinese", "中文", "汉语", "漢語"),
    "ja": ("Japanese", "japanisch", "japonais", "japonés", "giapponese", "日本語", "日语"),
    "ko": ("Korean", "koreanisch", "coréen", "coreano", "한국어"),
    "ar": ("Arabic", "arabisch", "arabe", "árabe", "العربية", "عربي"),
    "fa": ("Persian", "farsi", "persisch", "فارسی"),
    "he": ("Hebrew", "hebräisch", "hébreu", "עברית"),
    "hi": ("Hindi", "हिन्दी", "हिंदी"),
    "th": ("Thai", "thailändisch", "thaï", "ไทย"),
    "ca": ("Catalan", "katalanisch", "catalán", "català"),
}
"""The English name first; then how the language is named in others, to see whether a question asks for it."""
SCRIPTS = (
    ("greek", "\u0370", "\u03ff"),
    ("cyrillic", "\u0400", "\u052f"),
    ("hebrew", "\u0590", "\u05ff"),
    ("arabic", "\u0600", "\u08ff"),
    ("devanagari", "\u0900", "\u097f"),
    ("indic", "\u0980", "\u0dff"),
    ("thai", "\u0e00", "\u0e7f"),
    ("hangul", "\u1100", "\u11ff"),
    ("hangul", "\uac00", "\ud7af"),
    ("kana", "\u3040", "\u30ff"),
    ("han", "\u3400", "\u9fff"),
)
LANGUAGE_OF_SCRIPT = {"greek": "el", "hebrew": "he", "thai": "th", "hangul": "ko", "kana": "ja", "han": "zh"}
MANY_LANGUAGES = ("cyrillic", "arabic", "devanagari", "indic")
"""Scripts that several languages use."""
TRANSLATING = re.compile(
    "translat|übersetz|tradu[cirz]|traducc|vertaal|vertal|översätt|oversæt|oversett|перевед|перевод|翻译|翻譯|翻訳"
    "|번역|ترجم|dịch|terjemah|çevir|tłumacz|přelož|fordít|in which language|what language|multilingual"
)
