"""The report page in a real browser, without network: what it shows is what the Parquet files hold."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from samplecnn.corrections import correct
from samplecnn.labels import MarkSettings
from samplecnn.report.settings import Sources
from samplecnn.report.write import write_report
from samplecnn.store import open_store
from tests.fixtures.browser import SIZES, Opened, open_page
from tests.fixtures.heard import commit, heard

pytestmark = pytest.mark.browser

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}'\"&.wav"
JUDGE = "<em>Ann</em>"
BROKEN = "<b onmouseover=alert(3)>broken</b>.mp3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grades folder of 240 recordings with its report."""
    place = tmp_path_factory.mktemp("report") / "grades"
    store = open_store(str(place))
    commit(
        store,
        "20261126-r1",
        [heard(f"2026/take {number}.wav", number, segments=4 + number % 9) for number in range(237)],
    )
    later = [
        heard(EVIL, 900, warning="<i>decoded</i> in part"),
        heard("für Élise.flac", 901),
        heard("quiet.wav", 902, gradable=False, reason="too little playing: 3.20 s, less than 5 s"),
    ]
    commit(store, "20261127-r2", later, {BROKEN: "<u>not audio</u>", "live.wav": "no sound"})
    (place.parent / "corrections.csv").write_text(
        f"recording,grade,mark,by,why\n2026/take 3.wav,A,,{JUDGE},<s>wrong</s>\nlive.wav,,66.5,Ben,heard\n"
    )
    correct(str(place), f"{place.parent}/corrections.csv", None, MarkSettings(cuts="50,75"))
    write_report(Sources(grades=str(place)))
    return place


@pytest.fixture(params=SIZES)
def opened(request: pytest.FixtureRequest, browser: Browser, folder: Path) -> Iterator[Opened]:
    found = open_page(browser, folder / "report.html", request.param)
    yield found
    found.page.context.close()


def cells(opened: Opened) -> list[list[str]]:
    """The rows that the table shows, as text, hidden columns too."""
    rows: list[list[str]] = opened.page.eval_on_selector_all(
        "#recordings-table tbody tr",
        "rows => rows.map(row => [...row.cells].map((cell, i) => (i ? cell : cell.querySelector('bdi')).textContent))",
    )
    return rows


def show(opened: Opened, name: str) -> None:
    """Search a recording and open it."""
    opened.page.get_by_label("Search").fill(name)
    opened.page.get_by_role("button", name=name, exact=True).click()


def test_it_asks_for_nothing_and_complains_of_nothing(opened: Opened) -> None:
    show(opened, "2026/take 7.wav")
    opened.page.wait_for_selector("dialog[open] svg")
    assert [url.split(":")[0] for url in opened.asked] == ["file"]
    assert opened.complaints == []
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_failures_and_what_is_not_gradable_come_first_and_all_else_is_as_in_the_parquet(
    opened: Opened, folder: Path
) -> None:
    latest = pd.read_parquet(folder / "latest.parquet").set_index("recording")
    rows = cells(opened)
    for _ in range(2):
        opened.page.get_by_role("button", name="On", exact=True).click()
        rows += cells(opened)
    assert opened.page.get_by_role("button", name="On", exact=True).is_disabled()
    assert [row[:2] for row in rows[:2]] == [[BROKEN, "failed"], ["quiet.wav", "not gradable"]]
    assert sorted(row[0] for row in rows[1:]) == sorted(latest.index)
    for name, grade, score, confidence, length in rows[2:]:
        told = latest.loc[name]
        assert grade == told.grade + (" by a person" if pd.notna(told.corrected_by) else "")
        if name == "live.wav":
            assert (score, confidence) == ("–", "–")
            continue
        assert [float(score), float(confidence)] == pytest.approx([told.score, told.confidence], abs=0.0051)
        assert length == f"{int(told.duration_s + 0.5) // 60}:{int(told.duration_s + 0.5) % 60:02}"
    grades = [row[1][0] for row in rows[2:]]
    assert grades == sorted(grades)


def test_a_column_sorts_both_ways_and_says_so(opened: Opened, folder: Path) -> None:
    head = opened.page.get_by_role("button", name="Score")
    head.click()
    upwards = [row[2] for row in cells(opened)]
    assert upwards == sorted(upwards)
    assert opened.page.locator("th[aria-sort=ascending]").inner_text().startswith("Score")
    head.press("Enter")  # by keyboard too
    downwards = [row[2] for row in cells(opened)]
    assert downwards == sorted(downwards, reverse=True)
    assert float(downwards[0]) == pytest.approx(pd.read_parquet(folder / "latest.parquet").score.max(), abs=0.005)
    assert opened.page.locator("th[aria-sort]").count() == 1


def test_search_finds_names_in_any_spelling_and_remarks(opened: Opened) -> None:
    search = opened.page.get_by_label("Search")
    search.fill("FU\u0308R e\u0301lise")  # decomposed, as macOS spells it
    assert [row[0] for row in cells(opened)] == ["für Élise.flac"]
    assert opened.page.get_by_role("status").inner_text() == "1 of 242 recordings"
    search.fill("too little playing")
    assert [row[0] for row in cells(opened)] == ["quiet.wav"]
    search.fill("")
    opened.page.get_by_label("Show").select_option("those for a person to hear")
    assert [row[0] for row in cells(opened)] == [BROKEN, "quiet.wav"]
    opened.page.get_by_label("Show").select_option("grade B")
    assert {row[1][0] for row in cells(opened)} == {"B"}
    opened.page.get_by_label("Show").select_option("those of the last run")
    assert opened.page.get_by_role("status").inner_text() == "5 of 242 recordings"


def test_a_recording_opens_to_what_its_segments_say(opened: Opened, folder: Path) -> None:
    name = "2026/take 7.wav"
    segments = pd.read_parquet(folder / "parts/20261126-r1/segments-00001.parquet")
    segments = segments[segments.recording == name].sort_values("segment")
    score = segments.p_A + segments.p_B / 2
    pull = segments.weight * (score - (segments.weight * score).sum())
    show(opened, name)
    dialog = opened.page.get_by_role("dialog")

    assert dialog.locator("rect.segment").count() == len(segments)
    assert dialog.locator("path.wave").count() == len(segments)
    assert dialog.locator("rect.silent").count() == (segments.activity < 0.2).sum() == 1
    dialog.get_by_text("segments as a table").click()
    rows = dialog.locator("table.segments tbody tr").evaluate_all(
        "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    )
    expected = [
        [*(f"{p:.3f}" for p in (s.p_A, s.p_B, s.p_C)), f"{100 * s.activity:.0f} %", f"{100 * s.weight:.1f} %"]
        for s in segments.itertuples()
    ]
    for row, figures in zip(rows, expected, strict=True):
        shown, right = ([float(text.rstrip(" %")) for text in texts] for texts in (row[1:], figures))
        assert shown == pytest.approx(
            right, abs=1.001 if shown[3] != right[3] else 0.0011 if shown[4] == right[4] else 0.11
        )
    lists = dialog.locator(".moments ol").all()
    for order, ascending in zip(lists, (False, True), strict=True):
        first = segments.loc[pull.sort_values(ascending=ascending).index[0]]
        start = int(first.start_s + 0.5)
        assert order.locator("li").first.inner_text().startswith(f"{start // 60}:{start % 60:02}–")
        assert re.search(r"by (\d\.\d+)", order.locator("li").first.inner_text())[1] == pytest.approx(
            f"{abs(pull.loc[first.name]):.3f}"
        )
    opened.page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_dots_tell_their_recording_and_open_it(opened: Opened) -> None:
    for name, kind in (("strip", "PCA"), ("map", "t-SNE"), ("map", "recordings")):
        opened.page.locator("#map-kind").select_option(kind)
        canvas = opened.page.locator(f"#{name}")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        told = opened.page.locator(f"#{name}-told")
        for step in range(400):  # somewhere on these lines there is a dot
            across, down = divmod(step, 10)
            place = (box["x"] + box["width"] * (0.2 + 0.015 * across), box["y"] + box["height"] * (0.5 + 0.04 * down))
            opened.page.mouse.move(*place)
            if told.inner_text():
                break
        recording = re.match(r"(.+): [ABC]" if kind == "recordings" else r"(.+) at \d+:\d\d: [ABC]", told.inner_text())[
            1
        ]
        opened.page.mouse.click(*place)
        assert opened.page.locator("#detail-title bdi").inner_text() == recording
        opened.page.get_by_role("button", name="Close").click()
    assert opened.complaints == []


def test_names_and_messages_are_text_whatever_they_hold(opened: Opened) -> None:
    opened.page.get_by_label("Search").fill("alert(")
    assert sorted(row[0] for row in cells(opened)) == sorted([EVIL, BROKEN])
    for name in (EVIL, BROKEN):
        opened.page.get_by_role("button", name=name).click()
        assert opened.page.locator("#detail-title bdi").inner_text() == name
        opened.page.get_by_role("button", name="Close").click()
    assert opened.page.locator("tbody").get_by_text("failed: decode: <u>not audio</u>").is_visible()
    assert opened.page.locator("img, i, u, s, em, b[onmouseover]").count() == 0
    assert opened.page.locator("script").count() == 2
    assert opened.complaints == []


def test_a_correction_is_told_with_who_and_why_and_what_the_model_said(opened: Opened, folder: Path) -> None:
    machine = pd.read_parquet(folder / "latest.parquet").set_index("recording").loc["2026/take 3.wav"].machine_grade
    show(opened, "2026/take 3.wav")
    told = opened.page.get_by_role("dialog").inner_text()
    assert f"Corrected by {JUDGE} (" in told
    assert f"): <s>wrong</s>. The model said {machine}." in told
    opened.page.get_by_role("button", name="Close").click()
    show(opened, "live.wav")
    told = opened.page.get_by_role("dialog").inner_text()
    assert "failed: decode: no sound" in told
    assert "Corrected by Ben, mark 66.5 (" in told
    assert "The model gave no grade." in told


@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_nothing_serious(browser: Browser, folder: Path, size: str) -> None:
    opened = open_page(browser, folder / "report.html", size)
    found = Axe().run(opened.page).response["violations"]
    opened.page.get_by_role("button", name="quiet.wav").click()
    found += Axe().run(opened.page).response["violations"]
    opened.page.get_by_role("button", name="Close").click()
    show(opened, "2026/take 7.wav")
    opened.page.get_by_text("segments as a table").click()
    found += Axe().run(opened.page).response["violations"]
    assert [f"{one['id']}: {one['nodes'][0]['html']}" for one in found] == []
    opened.page.context.close()


def test_the_page_is_printed_whole(browser: Browser, folder: Path) -> None:
    opened = open_page(browser, folder / "report.html", "desktop")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    opened.page.emulate_media(media="print")
    assert len(cells(opened)) == 242
    assert not opened.page.get_by_label("Search").is_visible()
    assert opened.page.pdf().startswith(b"%PDF")
    opened.page.context.close()
