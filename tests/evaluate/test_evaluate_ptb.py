"""Penn Treebank words without Java: a table of what Java says, and Java itself where it is there."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figclip_cli.evaluate.metrics.ptb import ptb_all, ptb_words

DROPPED = ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";")
# What PTBTokenizer of pycocoevalcap 1.2 makes of each, a line at a time.
TABLE = (
    ("<bos> a <unk> runs . </s>", "<bos> a <unk> runs </s>"),
    ("-lrb- slack line -RRB-", "-lrb- slack line -rrb-"),
    ("it 's a man 's dog , he does n't", "it 's a man 's dog he does n't"),
    ("him,a-b.", "him,a-b"),
    ("end.The next", "end.the next"),
    ("@name and #hash", "@name and #hash"),
    ("#3", "# 3"),
    ("AT&T and R&B", "at&t and r&b"),
    ("co.uk etc., and", "co.uk etc. and"),
    ("I. He", "i he"),
    ("vitamin c.", "vitamin c."),
    ("vitamin C. Then he", "vitamin c then he"),
    ("U.S. Then it", "u.s. then it"),
    ("the U.S. team", "the u.s. team"),
    ("No. 5 is", "no. 5 is"),
    ("no. of", "no of"),
    ("Mr. Smith", "mr. smith"),
    ("5 p.m. and", "5 p.m. and"),
    ("end.,", "end."),
    ("1 1/2 cups", "1\N{NO-BREAK SPACE}1/2 cups"),
    ("1-1/2 cup", "1-1/2 cup"),
    ("877-415-8342 x", "877-415-8342 x"),
    ("555 123 4567", "555\N{NO-BREAK SPACE}123\N{NO-BREAK SPACE}4567"),
    ("(555) 123-4567", "-lrb-555-rrb-\N{NO-BREAK SPACE}123-4567"),
    ("$5.00", "$ 5.00"),
    ("US$5", "us$ 5"),
    ("5% off", "5 % off"),
    ("'90 and", "'90 and"),
    ("the '80s", "the '80s"),
    ("boys' toys", "boys toys"),
    ("boy's toys", "boy 's toys"),
    ("It's'", "it 's"),
    ("'tis", "'t is"),
    ("'twas", "'t was"),
    ("gonna wanna gotta lemme gimme dunno cannot", "gon na wan na got ta lem me gim me dunno can not"),
    ("y'all", "y' all"),
    ("o'clock", "o'clock"),
    ("rock 'n' roll", "rock 'n' roll"),
    ("O'Malley", "o'malley"),
    ("c'mon", "c'mon"),
    (":) hi", ":-rrb- hi"),
    ("=).", "=-rrb-"),
    ("a < b > c", "a < b > c"),
    ("&amp; x", "& x"),
    ("&quot;q&quot;", "q"),
    ("&nbsp;", ""),
    ("a_b_c", "a_b_c"),
    ("__x__", "__ x __"),
    ("***", "***"),
    ("a*b", "a * b"),
    ("@@", "@@"),
    ("and/or", "and/or"),
    ("and/or/not/x", "and/or/not / x"),
    ("http://www.x.com/a.b", "http://www.x.com/a.b"),
    ("www.google.com.", "www.google.com"),
    ("me@x.com", "me@x.com"),
    ("file.txt is", "file.txt is"),
    ("wait....What", "wait what"),
    ("wait .. x", "wait x"),
    ("a . . . b", "a b"),
    ("----", ""),
    ("-----", "-----"),
    ("a--b", "a b"),
    ("-5 degrees", "-5 degrees"),
    ("5+5=10", "5 +5 = 10"),
    ("1,000,000", "1,000,000"),
    ("3:45:10", "3:45:10"),
    (":12", ":12"),
    ("12:", "12"),
    ("1st,2nd", "1st ,2 nd"),
    ("a,1", "a ,1"),
    ("2012-10-11", "2012-10-11"),
    ("don't", "do n't"),
    ("can't", "ca n't"),
    ("DON'T", "do n't"),
    ("he'd", "he 'd"),
    ("they'll", "they 'll"),
    ("'em", "'em"),
    ("'cause", "'cause"),
    ("nat'l", "nat'l"),
    ('a"b"c', "a b c"),
    ("[a] {b} (c)", "-lsb- a -rsb- -lcb- b -rcb- -lrb- c -rrb-"),
    ("~ ^ \\", "~ ^ \\"),
    ("hi!", "hi"),
    ("hi!!", "hi !!"),
    ("hi?!", "hi ?!"),
    ("T-shirt's", "t-shirt 's"),
    ("man-made's", "man-made 's"),
    ("the man's-hat", "the man 's hat"),
    ("5'10", "5 '10"),
    ("6'2\"", "6 2"),
    ("non-U.S. x", "non-u.s. x"),
    ("OK! magazine", "ok magazine"),
    ("Cap'n", "cap'n"),
    ("pro- and anti-", "pro- and anti-"),
    ("'hello' he", "hello he"),
    ("\"'hello'\"", "hello"),
    ("Nov. 5", "nov. 5"),
    ("approx. 5", "approx 5"),
    ("pty. ltd", "pty. ltd"),
    ("who'd've", "who 'd 've"),
    ("wouldn't've", "would n't 've"),
    ("Ph.D. student", "ph.d. student"),
    ("2x4", "2x4"),
    ("#1's", "# 1 's"),
    ("no.1", "no. 1"),
    ("Fig. 3", "fig. 3"),
    ("fig. a", "fig a"),
    ("Dr.Smith", "dr.smith"),
    ("a..b", "a. b"),
    ("'''", ""),
    ("A$AP", "a$ ap"),
    ("a-1.5", "a-1 .5"),
    ("1.5-a", "1.5-a"),
    ("a,b-c.d", "a,b-c d"),
    ("a!b-c", "a!b c"),
    ("==", "= ="),
    ("U.S.A.'s", "u.s.a. 's"),
    ("Inc.'s", "inc. 's"),
    ("Corp. The", "corp. the"),
    ("a).", "a -rrb-"),
    (":-)", ":--rrb-"),
    (":D", ":d"),
    (":p a", ":p a"),
    ("8)", "8 -rrb-"),
)


@pytest.mark.parametrize(("text", "words"), TABLE)
def test_words_are_those_of_the_table(text, words):
    assert ptb_words(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        (" \t\r\n ", ""),
        ("...", ""),
        ("A man’s café – “nice”!", "a man s caf nice"),
        ("two\nlines\rand\ftwo", "two lines and two"),
        ("\x00a\x7fb\x1b", "a b"),
    ],
)
def test_what_is_not_ascii_or_no_text_is_a_space_or_nothing(text, words):
    assert ptb_words(text) == words


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_has_words_in_small_letters_with_single_spaces(text):
    words = ptb_words(text)
    assert words == words.lower() == " ".join(words.split(" ")).strip(" ")
    assert not set(words.split(" ")) & set(DROPPED)
    assert "\n" not in words


@given(st.lists(st.sampled_from(["A man runs.", "He doesn't.", "x"]), max_size=5))
def test_all_is_each(texts):
    assert ptb_all(texts) == [ptb_words(text) for text in texts]


def in_java(sentences, folder):
    """Words of each sentence by CoreNLP, as pycocoevalcap calls it; this writes nothing beside the package."""
    package = pytest.importorskip("pycocoevalcap")
    if shutil.which("java") is None:
        pytest.skip("there is no Java")
    program = Path(next(iter(package.__path__))) / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    ascii_only = ("".join(letter if letter.isascii() else " " for letter in one) for one in sentences)
    (folder / "lines.txt").write_text("\n".join(one.replace("\n", " ") for one in ascii_only))
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", program, "edu.stanford.nlp.process.PTBTokenizer"]
    done = subprocess.run(
        [*command, "-preserveLines", "-lowerCase", folder / "lines.txt"], capture_output=True, check=True
    )
    lines = done.stdout.decode().split("\n")[: len(sentences)]
    return [" ".join(word for word in line.rstrip().split(" ") if word not in DROPPED) for line in lines]


def test_the_table_is_what_java_says(tmp_path):
    # A line of words between two others: what follows a full stop may be on the next line.
    lines = [line for text, _ in TABLE for line in (text, "and so on")]
    assert in_java(lines, tmp_path)[::2] == [words for _, words in TABLE]


def test_every_sentence_of_activitynet_has_the_words_that_java_gives(tmp_path, shared_data):
    videos = json.loads((shared_data / "dense" / "activitynet_val_1.json").read_text())
    sentences = [sentence for video in videos.values() for sentence in video["sentences"]]
    differing = [
        (own, java) for own, java in zip(ptb_all(sentences), in_java(sentences, tmp_path), strict=True) if own != java
    ]
    # Java reads on into the next line, which begins with "She": of the letter's full stop it makes an end.
    assert len(sentences) == 17505
    assert [(own[-12:], java[-11:]) for own, java in differing] == [("a capital t.", "a capital t")]
