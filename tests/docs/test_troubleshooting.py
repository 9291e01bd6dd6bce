"""docs/troubleshooting.md quotes what the library and Kafka really say."""

from __future__ import annotations

import re

import pytest
from confluent_kafka import KafkaError

from .pages import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
HEADINGS = re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
# Adjacent literals make one text.
SOURCE = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in ROOT.glob("dp_kafka/**/*.py")))


def test_there_are_symptoms_enough() -> None:
    assert len(HEADINGS) >= 20
    for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        assert part.count("- **Cause.**") == 1
        assert part.count("- **Fix.**") == 1


@pytest.mark.parametrize("heading", HEADINGS)
def test_what_a_symptom_quotes_is_said(heading: str) -> None:
    for text in re.findall(r'"([^"]+)"', heading):
        assert text in SOURCE, f"nothing logs or raises {text!r}"
    for code in re.findall(r"`([A-Z_]+)`", heading):
        assert hasattr(KafkaError, code), f"Kafka has no error {code}"
    for words in re.findall(r"`([^`]+)`", heading):
        assert words.isupper() or words in SOURCE, f"there is no {words!r}"
