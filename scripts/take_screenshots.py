"""Take the pictures of a report that docs/ shows, in a headless Chromium (scripts/install_browser.sh).

examples:
  python scripts/take_screenshots.py --grades demo/grades --out docs/images

--grades and --out are local folders. The report is the one that make demo, or jobs/report.py, wrote into the first.
"""

import shutil
from pathlib import Path

from samplecnn.contract import REPORT_HTML
from samplecnn.errors import JobError, UserError
from samplecnn.flags import Flags, run

WIDTH, HEIGHT = 1100, 760
SECTIONS = ("night", "segments", "trust")


def main() -> int:
    args = Flags(__doc__).places("grades", "out").parse()
    page, out = Path(args.grades, REPORT_HTML).resolve(), Path(args.out)
    if not page.exists():
        raise UserError(f"--grades {args.grades}: no {REPORT_HTML} there: run jobs/report.py first")
    chromium = shutil.which("chromium")
    if chromium is None:
        raise JobError("chromium is not installed: run scripts/install_browser.sh as root")
    from playwright.sync_api import sync_playwright  # after parsing: of requirements-dev.txt alone

    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        # As root Chromium has no sandbox; the page is our own.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        shown.goto(page.as_uri())
        shown.screenshot(path=out / "report.png")
        for section in SECTIONS:
            if shown.locator(f"#{section}").count():
                shown.locator(f"#{section}").screenshot(path=out / f"report-{section}.png")
        shown.locator("tbody .open").last.click()
        shown.get_by_role("dialog").screenshot(path=out / "report-recording.png")
        browser.close()
    print(f"pictures of {page.name} in {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
