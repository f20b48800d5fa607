"""The player of a report: it plays the recording, from the moment that was chosen, linked or within the page."""

import os
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from samplecnn.errors import UserError
from samplecnn.report import audio
from samplecnn.report.grading import read_grades
from samplecnn.report.settings import EMBED, LINK, ReportSettings, Sources
from samplecnn.report.write import write_report
from samplecnn.store import Store, open_store
from tests.fixtures import heard as fixture
from tests.fixtures.audio import write_audio
from tests.fixtures.browser import open_page
from tests.fixtures.heard import commit, heard

NAME = "2026/näher #1?.wav"


@pytest.fixture
def grades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A grades folder of recordings, one of a name that an address must escape, and of one that is gone."""
    (tmp_path / "uploads/2026").mkdir(parents=True)
    monkeypatch.setitem(fixture.SETTINGS, "recordings", str(tmp_path / "uploads"))
    for seed, name in enumerate((NAME, "b.wav")):
        wave_T = np.random.default_rng(seed).uniform(-0.1, 0.1, (1, 45 * 8000)).astype(np.float32)
        write_audio(tmp_path / "uploads" / name, wave_T, 8000)
    store = open_store(f"{tmp_path}/grades")
    named = enumerate((NAME, "b.wav", "gone.wav"))
    commit(store, "20261126-r1", [heard(name, seed, segments=4) for seed, name in named])
    return store


@pytest.mark.browser
@pytest.mark.parametrize("how", [LINK, EMBED])
def test_a_moment_is_played_where_it_begins(browser: Browser, grades: Store, how: str) -> None:
    write_report(Sources(grades=grades.url()), ReportSettings(audio=how))
    opened = open_page(browser, Path(grades.root) / "report.html", "desktop")
    opened.page.get_by_role("button", name=NAME).click()
    moment = opened.page.locator(".play").first
    minutes, seconds = moment.inner_text().removeprefix("▶ ").split("–")[0].split(":")
    start = 60 * int(minutes) + int(seconds)
    moment.click()
    player = opened.page.locator("audio")
    for _ in range(1200):  # wait_for_function would want eval, which the page forbids
        if player.evaluate("player => player.readyState") >= 2:
            break
        opened.page.wait_for_timeout(100)
    player.evaluate("player => player.pause()")
    assert start - 1 <= player.evaluate("player => player.currentTime") <= 45  # it plays on meanwhile
    assert player.evaluate("player => player.duration") == pytest.approx(45, abs=0.5)
    opened.page.get_by_role("button", name="Close").click()
    player.wait_for(state="detached")
    assert opened.complaints == []
    opened.page.context.close()


@pytest.mark.browser
def test_a_recording_that_is_gone_is_said_to_be(browser: Browser, grades: Store) -> None:
    write_report(Sources(grades=grades.url()), ReportSettings(audio=LINK))
    opened = open_page(browser, Path(grades.root) / "report.html", "desktop")
    opened.page.get_by_role("button", name="gone.wav").click()
    opened.page.locator(".play").first.click()
    opened.page.get_by_text("cannot be played from here").wait_for()
    opened.page.context.close()


def test_sound_is_off_unless_asked_for_and_too_much_of_it_is_refused(
    grades: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(Sources(grades=grades.url()))
    page = Path(grades.root, "report.html").read_text(encoding="utf-8")
    assert "media-src 'none'" in page
    assert "uploads" not in page
    monkeypatch.setattr(audio, "MOST_BYTES", 800_000)
    with pytest.raises(UserError, match="use --audio link"):
        write_report(Sources(grades=grades.url()), ReportSettings(audio=EMBED))


def test_recordings_in_a_bucket_are_linked_where_a_person_is_signed_in(
    grades: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fixture.SETTINGS, "recordings", "gs://school/uploads")
    place = f"{grades.url()}2"
    commit(open_store(place), "20261126-r1", [heard(NAME, 1)])
    folder = read_grades(place)
    (address,) = audio.addresses(folder, [NAME], LINK)
    assert address == "https://storage.cloud.google.com/school/uploads/2026/n%C3%A4her%20%231%3F.wav"
    assert audio.media_source(folder, LINK) == "https:"


def test_a_recording_whose_name_is_no_text_is_found(grades: Store) -> None:
    uploads = Path(grades.root).parent / "uploads"
    with open(os.path.join(os.fsencode(uploads), b"caf\xe9.wav"), "wb") as file:
        file.write((uploads / "b.wav").read_bytes())
    folder = read_grades(grades.url())
    assert audio.addresses(folder, ["caf%E9.wav", "gone.wav"], LINK) == ["../uploads/caf%E9.wav", "../uploads/gone.wav"]
    within, gone = audio.addresses(folder, ["caf%E9.wav", "gone.wav"], EMBED)
    assert within.startswith("data:audio/")
    assert gone == ""
