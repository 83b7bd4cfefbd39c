"""Replies to what needs no document: greetings, thanks, goodbyes, who is there."""

import re

GREETING = "Hello! What would you like to know?"
_LISTENING = "I am listening. What would you like to know?"
_THANKS = "You are welcome. Is there anything else you would like to know?"
_HEARING = "Yes, I can hear you. What would you like to know?"
_IDENTITY = (
    "I am a voice agent, and right now I work without a language model. "
    "Ask me about my documents: I look for the sentences that answer you, and read them to you."
)
_GOODBYE = "Goodbye, and thank you for calling."

# What is said, without punctuation, and its reply. Where several are said, the later row replies.
_PHRASES = (
    (
        (
            "ok|okay|yes|yeah|no|oh|ah|um|uh|well|so|and|right|great|good|perfect|please",
            "there|agent|assistant|again|everyone|everybody|very much|a lot",
        ),
        _LISTENING,
    ),
    (("hello|hi|hey", "good (?:morning|afternoon|evening|day)", "how are you"), GREETING),
    (("thanks|thank you|many thanks", "for (?:your|the) help"), _THANKS),
    (
        (
            "(?:can|do) you hear me",
            "are you (?:still )?there",
            "is (?:any|some)(?:one|body) there",
        ),
        _HEARING,
    ),
    (
        (
            "(?:who|what) are you",
            "what(?: i)?s your name",
            "are you (?:an? )?(?:real|human|robot|bot|machine|ai|person)(?: person)?",
            "who am i (?:talking|speaking) (?:to|with)",
            "(?:what|how) can you (?:do|help me)(?: for me)?",
            "help(?: me)?",
        ),
        _IDENTITY,
    ),
    (
        (
            "goodbye|good bye|bye|good night",
            "see you(?: later| soon)?",
            "that(?:s| is| was) all",
            "have a (?:nice|good|great) day",
        ),
        _GOODBYE,
    ),
)
_PATTERNS = [re.compile(rf"(?:{'|'.join(phrases)})(?= |$)") for phrases, _ in _PHRASES]


def small_talk(utterance: str) -> str | None:
    """The reply to an utterance that is nothing but small talk; else None.

    "Hello, who are you?" gets one, "Hello, which port is it?" does not.
    """
    words = utterance.casefold().replace("'", "").replace("\u2019", "")
    rest = " ".join(re.findall(r"\w+", words))
    latest_row = -1
    while rest:
        ends = [match.end() if (match := row.match(rest)) else 0 for row in _PATTERNS]
        longest = max(ends)
        if not longest:
            return None
        latest_row = max(latest_row, ends.index(longest))
        rest = rest[longest:].lstrip()
    return _PHRASES[latest_row][1] if latest_row >= 0 else None
