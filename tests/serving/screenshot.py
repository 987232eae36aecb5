"""Takes docs/images/chat.png of a server that runs: python tests/serving/screenshot.py http://127.0.0.1:8000.

Asks one question with the probabilities shown and points at an improbable token. Needs playwright, chromium and Pillow.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import ViewportSize, sync_playwright

QUESTION = "What is a glacier?"
TARGET = Path(__file__).parents[2] / "docs/images/chat.png"

with sync_playwright() as driver:
    browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
    size: ViewportSize = {"width": 1000, "height": 640}
    page = browser.new_page(viewport=size, device_scale_factor=1.5, color_scheme="light", locale="en-US")
    page.goto(sys.argv[1])
    page.fill("[name=seed]", "1")
    page.fill("[name=temperature]", "0.5")
    page.fill("[name=max_tokens]", "120")
    page.check("[name=probabilities]")
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.locator(".regenerate").wait_for(timeout=120_000)
    doubts = page.locator(".token").evaluate_all(
        "tokens => tokens.slice(0, 60).map((token) => parseInt(token.style.getPropertyValue('--doubt')))"
    )
    page.locator(".token").nth(doubts.index(max(doubts))).hover()
    picture = page.screenshot()
    browser.close()
TARGET.parent.mkdir(exist_ok=True)
Image.open(io.BytesIO(picture)).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(TARGET, optimize=True)
print(f"{TARGET}: {TARGET.stat().st_size} bytes")
