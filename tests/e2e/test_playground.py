"""The page at `/` in a browser: every kind of model tried by hand, by mouse or by keyboard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import catalog
from penstock.store import Store
from tests import probe, untrained
from tests.endpoints import running, serving
from tests.untrained import WORKLOADS

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install -y chromium")
    store = Store.open(tmp_path_factory.mktemp("playground"))
    for name in WORKLOADS:
        untrained.publish(store, name)
    with running(serving(store)) as url:
        yield url


@pytest.fixture(scope="module")
def browser(url: str) -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The page with every tile on it; fails when anything goes wrong in it, or it asks anybody else."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    wrong: list[str] = []
    # a refusal (422) is what some tests are about; the browser calls it an error
    page.on(
        "console",
        lambda said: wrong.append(said.text) if said.type == "error" and "422" not in said.text else None,
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((url, "blob:", "data:")) else wrong.append(asked.url),
    )
    page.goto(url)
    playwright.expect(page.locator(".tile")).to_have_count(len(WORKLOADS), timeout=30_000)
    yield page
    picture = os.environ.get("PENSTOCK_SCREENSHOTS")
    if picture:
        name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]
        page.screenshot(path=Path(picture) / f"{name}.png", full_page=True)
    page.close()
    assert not wrong, wrong


def tile(page: Any, name: str) -> Any:
    return page.locator(f"[data-model={name}]")


def test_every_model_has_a_tile_that_says_what_it_is(page: Any) -> None:
    for name in WORKLOADS:
        assert catalog.find(name).summary in tile(page, name).locator("header").inner_text()
    assert page.locator(".tile .wrong").count() == 0


def test_every_control_has_a_name_and_the_page_one_heading(page: Any) -> None:
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, textarea, meter, img, svg[role]')]
            .filter((one) => !(one.labels?.length || one.ariaLabel || one.alt || one.textContent.trim()))
            .map((one) => one.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    assert page.locator("h1").count() == 1 and page.locator("h2").count() == len(WORKLOADS)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the models"


def test_a_picture_shows_its_boxes(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "car.png"
    path.write_bytes(probe.png(64, (120, 120, 120)))
    place = tile(page, "detection")
    place.locator("input[type=file]").set_input_files(path)
    place.locator(".seen img").wait_for()
    assert place.locator(".seen canvas").count() == 1
    assert "sure" in place.inner_text() or "Found" in place.inner_text()


def test_tissue_has_a_heat_map_and_probabilities(page: Any) -> None:
    place = tile(page, "pathology")
    place.get_by_role("button", name="Use the example").click()
    place.get_by_alt_text("heatmap of the answer").wait_for()
    assert place.locator("meter").count() == 2 and "not for diagnosis" in place.inner_text()


def test_a_dropped_picture_is_taken(page: Any) -> None:
    page.evaluate(
        """(image) => {
            const bytes = Uint8Array.from(atob(image), (letter) => letter.charCodeAt(0));
            const carried = new DataTransfer();
            carried.items.add(new File([bytes], 'x.png', { type: 'image/png' }));
            document.querySelector('[data-model=pathology] .drop')
                .dispatchEvent(new DragEvent('drop', { dataTransfer: carried, bubbles: true }));
        }""",
        probe.Request(image=probe.png(40)).model_dump(mode="json")["image"],
    )
    tile(page, "pathology").locator("meter").first.wait_for()


def test_a_file_that_is_no_picture_is_told_so(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    place = tile(page, "detection")
    place.locator("input[type=file]").set_input_files(path)
    place.get_by_role("alert").wait_for()
    assert "picture" in place.get_by_role("alert").inner_text().lower()


def test_a_sound_is_heard(page: Any) -> None:
    place = tile(page, "speech")
    place.get_by_role("button", name="Use the example").click()
    place.locator("meter").first.wait_for()
    assert place.locator("audio").count() == 1


def test_a_conversation_streams_and_remembers(page: Any) -> None:
    place = tile(page, "chatbot")
    for text in ("Hello there", "And now?"):
        place.get_by_label("Your message").fill(text)
        place.get_by_label("Your message").press("Enter")
        playwright.expect(place.locator("[aria-busy]")).to_have_count(0, timeout=30_000)
    said = place.locator(".said p")
    assert said.count() == 4 and said.nth(2).inner_text() == "And now?"


def test_films_for_somebody_and_more_like_one(page: Any) -> None:
    place = tile(page, "recsys")
    place.get_by_role("button", name="Recommend").click()
    place.locator("ol li").first.wait_for()
    assert place.locator("ol li").count() == 5 and "Nothing is known yet" in place.inner_text()
    first = place.locator("ol li").first.inner_text().split("\n")[0]
    place.locator("ol li button").first.click()
    playwright.expect(place).to_contain_text("watched before", timeout=30_000)
    assert f"You like: {first.split(' (')[0]}" in place.inner_text()


def test_a_wall_of_pictures_with_seeds_and_classes(page: Any) -> None:
    place = tile(page, "gan")
    place.get_by_role("button", name="Draw").click()
    place.locator(".wall img").first.wait_for()
    assert (
        place.locator(".wall img").count() == 24
        and "seed 7" in place.locator("figcaption").first.inner_text()
    )
    place.get_by_label("label").select_option(index=1)
    chosen = place.get_by_label("label").input_value()
    place.get_by_role("button", name="Others").click()
    playwright.expect(place.locator("figcaption").first).to_contain_text("seed 31", timeout=30_000)
    assert all(chosen in text for text in place.locator("figcaption").all_inner_texts())


def test_a_game_of_go_by_keyboard(page: Any) -> None:
    place = tile(page, "go")
    place.locator(".point.legal").first.wait_for()
    assert place.locator(".point").count() == 25
    place.locator(".point[tabindex='0']").focus()
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.dataset.vertex") == "C4"
    page.keyboard.press("Enter")
    place.locator("svg.graph").wait_for()
    assert place.locator(".point.black").count() == 1
    assert place.locator("[data-vertex=C4]").get_attribute("aria-label") == "C4, black"
    assert "Black's chance of winning" in place.inner_text()
    place.get_by_role("button", name="Take back").click()
    playwright.expect(place.locator(".point.black")).to_have_count(0, timeout=30_000)
    place.locator("select").first.select_option("7")
    playwright.expect(place.locator(".point")).to_have_count(49, timeout=60_000)


def test_any_other_model_has_a_form_of_its_schema(page: Any) -> None:
    place = tile(page, "toy")
    place.get_by_role("button", name="Ask").click()
    place.get_by_text("label:").wait_for()
    place.get_by_label("pixels").fill("[1, 2")
    place.get_by_role("button", name="Ask").click()
    place.get_by_role("alert").wait_for()
    assert "pixels is not JSON" in place.get_by_role("alert").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_or_dark_as_the_reader_likes_and_fits_a_phone(
    browser: Any, url: str, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page.goto(url)
    playwright.expect(page.locator(".tile")).to_have_count(len(WORKLOADS), timeout=30_000)
    shade = (
        page.evaluate("getComputedStyle(document.body).backgroundColor").removeprefix("rgb(").split(",")[0]
    )
    assert (int(shade) > 128) == (scheme == "light")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()
