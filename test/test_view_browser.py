"""The page in a real browser: of `taptr view` on a file, and of the node on a live tracker."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="aiohttp, of the extra `view`, is not installed")
pytest.importorskip("playwright", reason="playwright is not installed")

from media_files import moving_scene, write_video
from playwright.sync_api import Browser, Page, WebSocket, sync_playwright
from view_client import Named, Still, view_process, wait_until

from taptr_ros.messages.encoded import JpegEncoder
from taptr_ros.view.gate import Gate
from taptr_ros.view.protocol import frame_message
from taptr_ros.view.server import ViewServer

FRAMES = 30
WIDTH, HEIGHT = 512, 384
TOKEN = "correct horse battery"  # noqa: S105

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EXECUTABLE = next(filter(None, map(shutil.which, BROWSERS)), None)

if EXECUTABLE is None:
    pytest.skip(f"none of the browsers {', '.join(BROWSERS)} is installed", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene = [np.kron(image, np.ones((4, 4, 1), np.uint8)) for image in moving_scene(FRAMES)]
    return write_video(tmp_path_factory.mktemp("browser") / "clip.avi", scene)


@pytest.fixture
def address(clip: Path, tmp_path: Path) -> Iterator[str]:
    with view_process(clip, "--model", "lucas_kanade", "--out", str(tmp_path / "saved")) as address:
        yield address


class Visitor:
    """A person at the page, and what goes over the network meanwhile."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.page: Page = browser.new_page(**{"viewport": {"width": 1100, "height": 700}} | options)
        self.problems: list[str] = []
        self.headers: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("websocket", self._listen)
        self.page.goto(address)

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.problems.append(text)

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._receive)
        socket.on("framesent", lambda data: self.sent.append(json.loads(data)))

    def _receive(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            header = json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])
            assert data[4:][int.from_bytes(data[:4], "little") :].startswith(b"\xff\xd8\xff")
            self.headers.append(header)
        elif (message := json.loads(data))["is"] == "status":
            self.statuses.append(message)

    def until(self, condition: Callable[[], Any]) -> Any:
        """Let the browser work until a condition holds, and return it."""

        def look() -> Any:
            self.page.wait_for_timeout(20)
            return condition()

        return wait_until(look)

    @property
    def tracks(self) -> dict[str, Any]:
        """The tracks in the newest image."""
        return dict(self.headers[-1]["tracks"])

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the image lies in the window: the image is shown as large as it fits, in the middle."""
        box = self.page.locator("#picture").bounding_box()
        assert box is not None
        width, height = self.headers[-1]["width"], self.headers[-1]["height"]
        scale = min(box["width"] / width, box["height"] / height)
        left = box["x"] + (box["width"] - scale * width) / 2
        top = box["y"] + (box["height"] - scale * height) / 2
        return left + scale * (x + 0.5), top + scale * (y + 0.5)

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.place(x, y))

    def arrived(self) -> None:
        """Wait until an image was drawn."""
        self.page.wait_for_selector("#picture[data-stamp]")
        self.until(lambda: self.headers)

    def close(self) -> None:
        self.page.close()
        assert self.problems == []


@pytest.fixture
def visitor(browser: Browser, address: str) -> Iterator[Visitor]:
    visitor = Visitor(browser, address)
    visitor.arrived()
    yield visitor
    visitor.close()


def test_a_click_becomes_a_track_where_it_was(visitor: Visitor) -> None:
    page = visitor.page
    for count, (x, y) in enumerate([(100, 80), (300.5, 200), (450, 301)], 1):
        visitor.click(x, y)
        visitor.until(lambda count=count: len(visitor.tracks["id"]) == count)
        assert (visitor.tracks["x"][-1], visitor.tracks["y"][-1]) == pytest.approx((x, y), abs=0.5)
    # The image is really drawn, and the point on it: its colour is that of no pixel of the scene.
    drawn = page.evaluate(
        """([x, y]) => [...document.getElementById("picture").getContext("2d").getImageData(x, y, 1, 1).data]""",
        [round(value) for value in _in_canvas(visitor, 300.5, 200)],
    )
    assert max(drawn[:3]) == 255
    page.mouse.move(*visitor.place(100, 80))
    page.wait_for_selector("#tip:not([hidden])")
    told = r"Point 1: visible\nvisibility 100 %, confidence 100 %\nx (100|99)\.\d, y (80|79)\.\d px"
    assert re.fullmatch(told, page.inner_text("#tip"))
    # Zoomed in, too.
    page.mouse.move(*visitor.place(200, 150))
    page.mouse.wheel(0, -700)
    page.wait_for_timeout(100)
    page.mouse.click(*visitor.place(200, 150))
    visitor.until(lambda: len(visitor.tracks["id"]) == 4)
    assert (visitor.tracks["x"][-1], visitor.tracks["y"][-1]) == pytest.approx((200, 150), abs=0.5)


@pytest.mark.parametrize("density", [2, 3])
def test_a_click_is_as_exact_on_dense_screens(browser: Browser, address: str, density: int) -> None:
    visitor = Visitor(browser, address, device_scale_factor=density)
    visitor.arrived()
    page = visitor.page
    page.click("#larger")
    page.click("#fit")
    visitor.click(100, 80)
    visitor.until(lambda: len(visitor.tracks["id"]) == 1)
    assert (visitor.tracks["x"][0], visitor.tracks["y"][0]) == pytest.approx((100, 80), abs=0.5)
    assert page.evaluate("picture.width == Math.round(picture.clientWidth * devicePixelRatio)")
    # Enlarged around a pixel, that pixel stays under the mouse: a click there is right to a fraction of a pixel.
    left, top = map(round, visitor.place(310, 210))
    page.mouse.move(left, top)
    for _ in range(3):
        page.mouse.wheel(0, -900)
        page.wait_for_timeout(30)
    page.mouse.click(left, top)
    visitor.until(lambda: len(visitor.tracks["id"]) == 2)
    (x, y), scale = visitor.place(0, 0), visitor.place(1, 0)[0] - visitor.place(0, 0)[0]
    expected = (left - x) / scale, (top - y) / scale
    asked = next(one for one in visitor.sent[::-1] if one["do"] == "add")
    assert asked["points"][0] == pytest.approx(expected, abs=0.2)
    visitor.close()


def _in_canvas(visitor: Visitor, x: float, y: float) -> tuple[float, float]:
    box = visitor.page.locator("#picture").bounding_box()
    assert box is not None
    across, down = visitor.place(x, y)
    return across - box["x"], down - box["y"]


def test_points_are_selected_and_removed(visitor: Visitor) -> None:
    page = visitor.page
    visitor.click(100, 80)
    visitor.click(300, 200)
    visitor.until(lambda: visitor.tracks["id"] == ["1", "2"])
    assert page.is_disabled("#remove")
    visitor.click(100, 80)
    page.click("#remove:not([disabled])")
    visitor.until(lambda: visitor.tracks["id"] == ["2"])
    page.click("#list summary")
    page.click("#points button")
    page.click("#picture", position={"x": 2, "y": 2})  # outside the image, nothing happens
    page.keyboard.press("]")
    page.wait_for_selector("#tip:has-text('Point 2: visible')")  # without a mouse, too
    page.keyboard.press("Delete")
    visitor.until(lambda: visitor.tracks["id"] == [])
    page.keyboard.press("u")
    visitor.until(lambda: visitor.tracks["id"] == ["2"])
    assert (visitor.tracks["x"][0], visitor.tracks["y"][0]) == pytest.approx((300, 200), abs=0.5)
    assert page.is_disabled("#undo")
    page.click("#clear")
    visitor.until(lambda: visitor.tracks["id"] == [])
    page.click("#undo:not([disabled])")
    visitor.until(lambda: visitor.tracks["id"] == ["2"])

    def select_by_key() -> bool:
        page.keyboard.press("]")  # keys work where a button has the focus, and as soon as the page has drawn the point
        return page.is_enabled("#remove")

    visitor.until(select_by_key)
    page.keyboard.press("Delete")
    visitor.until(lambda: visitor.tracks["id"] == [])


def test_points_are_chosen_by_keyboard_alone(visitor: Visitor) -> None:
    page = visitor.page
    page.focus("#picture")
    page.keyboard.press("ArrowRight")  # the cross appears in the middle
    for _ in range(3):
        page.keyboard.press("+")
    for key in ("Shift+ArrowRight",) * 30 + ("ArrowUp",) * 4:
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    visitor.until(lambda: visitor.tracks["id"] == ["1"])
    expected = min(WIDTH // 2 + 300, WIDTH - 1), HEIGHT // 2 - 4
    assert (visitor.tracks["x"][0], visitor.tracks["y"][0]) == pytest.approx(expected, abs=0.5)
    page.wait_for_selector("#picture[data-stamp]")
    page.keyboard.press("]")
    page.wait_for_selector("#tip:not([hidden])")  # the point is in view
    page.keyboard.press("Backspace")
    visitor.until(lambda: visitor.tracks["id"] == [])


def test_a_box_a_grid_and_clear(visitor: Visitor) -> None:
    page = visitor.page
    page.mouse.move(*visitor.place(60, 40))
    page.mouse.down()
    page.mouse.move(*visitor.place(150, 100), steps=4)
    page.mouse.move(*visitor.place(240, 160), steps=4)
    page.mouse.up()
    visitor.until(lambda: len(visitor.tracks["id"]) > 4)
    (asked,) = (one for one in visitor.sent if one["do"] == "add_box")
    assert asked["box"] == pytest.approx([60, 40, 240, 160], abs=0.5)
    for column, low, high in (("x", 60, 240), ("y", 40, 160)):
        assert low < min(visitor.tracks[column]) < max(visitor.tracks[column]) < high
    assert set(visitor.tracks["group"]) == {1}
    page.check("#groups")
    page.click("#clear")
    visitor.until(lambda: visitor.tracks["id"] == [])
    page.fill("#side", "3")
    page.click("#grid")
    visitor.until(lambda: len(visitor.tracks["id"]) == 9)
    assert min(visitor.tracks["x"]) == pytest.approx(WIDTH / 6 - 0.5, abs=0.5)


def test_a_file_is_played_wound_back_saved_and_reset(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.page
    visitor.click(250, 180)
    visitor.until(lambda: visitor.tracks["id"] == ["1"])
    page.click("#play")
    visitor.until(lambda: visitor.headers[-1]["number"] == FRAMES - 1)
    page.wait_for_selector("#play:has-text('Play')")
    moved = np.array([250, 180]) + 4 * np.array([2.0, 1.0]) * (FRAMES - 1)
    assert (visitor.tracks["x"][0], visitor.tracks["y"][0]) == pytest.approx(tuple(moved), abs=1.0)
    page.locator("#place").evaluate("(place) => { place.value = 5; place.dispatchEvent(new Event('input')); }")
    visitor.until(lambda: visitor.headers[-1]["number"] == 5)
    page.focus("#picture")
    page.keyboard.press(".")
    visitor.until(lambda: visitor.headers[-1]["number"] == 6)
    # A point in this earlier frame reaches the newest one without further ado.
    visitor.click(150, 100)
    visitor.until(lambda: visitor.tracks["id"] == ["1", "2"])
    visitor.until(lambda: not visitor.statuses[-1]["busy"] and visitor.statuses[-1]["points"] == 2)
    page.wait_for_timeout(1300)
    page.locator("#place").evaluate("(place) => { place.value = 29; place.dispatchEvent(new Event('input')); }")
    visitor.until(lambda: visitor.headers[-1]["number"] == 29 and len(visitor.tracks["id"]) == 2)
    for what in ("npz", "csv", "overlay"):
        page.click(f"[data-save={what}]")
        page.wait_for_selector("#told:has-text('Saved 2 points in 30 frames: ')")
        page.wait_for_selector(f"[data-save={what}]:not([disabled])")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"tracks.npz", "tracks.csv", "overlay.mp4"}
    page.click("#reset")
    visitor.until(lambda: visitor.headers[-1]["number"] == 0 and visitor.tracks["id"] == [])


def test_parameters_are_read_and_set(visitor: Visitor) -> None:
    page = visitor.page
    page.click("#settings summary")
    assert page.input_value("#parameter-lost_after") == "150"
    page.fill("#parameter-lost_after", "7")
    page.keyboard.press("Enter")
    visitor.until(lambda: page.locator("#parameters input[type=range]").nth(3).input_value() == "7")
    page.fill("#parameter-lost_after", "-3")
    page.keyboard.press("Enter")
    page.wait_for_selector("#told.refused:has-text('lost_after is -3')")
    visitor.until(lambda: page.input_value("#parameter-lost_after") == "7")


def test_two_look_at_once_and_both_at_phone_width(browser: Browser, visitor: Visitor, address: str) -> None:
    other = Visitor(browser, address, viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)
    try:
        other.arrived()
        other.page.touchscreen.tap(*other.place(200, 100))
        for each in (visitor, other):
            each.until(lambda each=each: each.tracks["id"] == ["1"])
            assert (each.tracks["x"][0], each.tracks["y"][0]) == pytest.approx((200, 100), abs=1.0)
        assert other.page.evaluate("document.documentElement.scrollWidth") == 390
    finally:
        other.close()


def test_silence_is_noticed_and_the_chosen_tracker_chosen_again(browser: Browser) -> None:
    first, second = Still(), Still()
    sessions = Named(first=first, second=second)
    server = ViewServer(sessions, Gate("127.0.0.1", None), "127.0.0.1", 0)
    port = server.port
    page = browser.new_page()
    try:
        page.clock.install()
        page.goto(server.url)
        page.wait_for_selector("#connection.on")
        page.select_option("#session", "second")
        wait_until(lambda: second.stage.viewers == 1)
        # A network that is gone closes nothing. Here, the page's clock is ahead of the server's signs of life.
        page.evaluate(
            "said = [];"
            "new MutationObserver(() => said.push(sentence.textContent)).observe(sentence, { childList: true });"
        )
        page.clock.run_for(15_000)
        page.wait_for_function("said.includes('The connection is lost. Trying again.')")
        page.clock.run_for(1_000)
        page.wait_for_selector("#connection.on")
        page.wait_for_function("document.getElementById('session').value === 'second'")
        wait_until(lambda: (first.stage.viewers, second.stage.viewers) == (0, 1))
        server.stop()
        page.wait_for_selector("#connection.off")
        server = ViewServer(sessions, Gate("127.0.0.1", None), "127.0.0.1", port)
        page.clock.run_for(10_000)
        page.wait_for_selector("#connection.on")
        page.wait_for_function("document.getElementById('session').value === 'second'")
    finally:
        page.close()
        server.stop()
        first.stage.stop()
        second.stage.stop()


def test_a_hidden_page_takes_no_images_and_goes_on_with_the_newest(browser: Browser) -> None:
    still = Still()
    server = ViewServer(Named(tracker=still), Gate("127.0.0.1", None), "127.0.0.1", 0)
    jpeg = JpegEncoder(80).encode(np.zeros((48, 64, 3), np.uint8))
    made: list[int] = []

    def show(number: int) -> None:
        def make() -> bytes:
            made.append(number)
            return frame_message(jpeg, 64, 48, number, None)

        still.stage.show(make)

    visitor = Visitor(browser, server.url)
    page = visitor.page
    try:
        wait_until(lambda: still.stage.viewers == 1)
        # What a browser does with a page that is hidden: it draws nothing.
        page.evaluate(
            "window.really = requestAnimationFrame; window.requestAnimationFrame = (act) => { window.later = act; }"
        )
        for number in range(1, 10):
            show(number)
            page.wait_for_timeout(30)
        assert made == [1, 2]
        page.evaluate("window.requestAnimationFrame = window.really; later()")
        for number in (9, 10, 11, 12):
            show(number)
            page.wait_for_selector(f"#picture[data-stamp='{number}']")
        assert made[-4:] == [9, 10, 11, 12]
        visitor.close()
    finally:
        server.stop()
        still.stage.stop()


def test_a_wrong_token_shows_a_question_and_the_right_one_the_image(
    browser: Browser, clip: Path, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    with view_process(clip, "--model", "lucas_kanade", "--token-file", str(file)) as address:
        assert quote(TOKEN) in address
        stranger = Visitor(browser, address.replace(quote(TOKEN), "guessed"))
        stranger.page.wait_for_selector("#asking[open]")
        assert stranger.headers == stranger.statuses == []
        assert "token" not in stranger.page.url
        stranger.page.fill("#token", TOKEN)
        stranger.page.keyboard.press("Enter")
        stranger.arrived()
        stranger.page.reload()  # the token is remembered for this tab
        stranger.arrived()
        stranger.close()


def test_the_demo_begins_when_somebody_looks(browser: Browser, clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")
    options = [
        "--source",
        str(clip),
        "--view",
        "--model",
        "lucas_kanade",
        "--grid",
        "2",
        "--out",
        str(tmp_path / "demo"),
    ]
    command = [sys.executable, "-m", "taptr_ros", "demo", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = ""
        while (address := re.search(r"Open (http://\S+) in a browser", said)) is None:
            line = process.stdout.readline()
            assert line, said
            said += line
        visitor = Visitor(browser, address[1])
        # Other trackers of this machine may be in the list, too.
        visitor.until(lambda: any("/taptr_demo/tracker" in status["sessions"] for status in visitor.statuses))
        if len(visitor.statuses[-1]["sessions"]) > 1:
            visitor.page.select_option("#session", "/taptr_demo/tracker")
        visitor.until(lambda: visitor.headers and visitor.headers[-1].get("tracks", {}).get("id"))
        said += process.communicate(timeout=60)[0]
        visitor.page.close()
    assert process.returncode == 0, said
    assert f"{FRAMES} published" in said


class Camera:
    """Publishes a moving picture until it is stopped."""

    def __init__(self, client: Any) -> None:
        from streams import stamp, view

        self._stopped = threading.Event()

        def publish() -> None:
            number = 0
            while not self._stopped.wait(0.05):
                number += 1
                client.send(view(number), stamp(number))

        self._thread = threading.Thread(target=publish)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def test_a_live_tracker_is_shown_and_steered_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")
    from ros_graph import Client, new_namespace, ros_context
    from streams import PERIOD, true_position

    from taptr_ros.cli.live_run import NodeProcesses

    namespace = new_namespace()
    name = f"{namespace}/tracker"
    with ros_context() as context, NodeProcesses(namespace, tmp_path) as processes:
        processes.start("view", {"port": 0})
        processes.start("tracker", {"model": "lucas_kanade", "history_seconds": 60.0})
        client = Client(context, namespace)
        camera = Camera(client)
        try:
            log = wait_until(lambda: re.search(r"http://\S+", (tmp_path / "view.log").read_text()))
            visitor = Visitor(browser, log[0])
            page = visitor.page
            visitor.until(lambda: name in visitor.statuses[-1]["sessions"] if visitor.statuses else False)
            if len(visitor.statuses[-1]["sessions"]) > 1:
                page.select_option("#session", name)
            visitor.until(lambda: visitor.headers and visitor.headers[-1].get("tracks"))
            visitor.until(lambda: visitor.statuses[-1]["rate"])
            assert visitor.statuses[-1]["model"] == "lucas_kanade"

            # The point is where the person saw it, in the image that the person saw, and follows since.
            def click_and_follow(x: float, y: float) -> None:
                page.mouse.move(*visitor.place(x, y))
                page.mouse.down()
                page.wait_for_timeout(300)  # the image goes on under the button
                page.mouse.up()
                asked = visitor.until(lambda: next((one for one in visitor.sent[::-1] if one["do"] == "add"), None))
                assert asked["points"][0] == pytest.approx([x, y], abs=0.5)
                visitor.until(lambda: visitor.tracks["id"])
                frames = (int(visitor.headers[-1]["stamp"]) - int(asked["stamp"])) / PERIOD
                assert frames >= 4
                expected = true_position(np.array(asked["points"]), round(frames))[0]
                shown = [visitor.tracks["x"][-1], visitor.tracks["y"][-1]]
                assert shown == pytest.approx(expected.tolist(), abs=0.5)

            click_and_follow(120.0, 90.0)
            for length in (0, 3, 12, 40, 200):
                client.publish_image(b"\0\1\0\0" + bytes(range(length)))
            page.click("#settings summary")
            visitor.until(lambda: page.locator("#parameter-lost_after").count())
            page.fill("#parameter-lost_after", "77")
            page.keyboard.press("Enter")
            page.check("#parameter-replenish")
            before = visitor.tracks["id"]
            page.click("#clear")
            visitor.until(lambda: not visitor.tracks["id"])
            page.click("#undo:not([disabled])")
            visitor.until(lambda: visitor.tracks["id"] == before)
            page.click("#clear")
            visitor.until(lambda: not visitor.tracks["id"])
            wait_until(lambda: _parameter(client, "replenish", "bool_value") is True)
            wait_until(lambda: _parameter(client, "lost_after") == 77)
            page.fill("#side", "2")
            page.click("#grid")
            visitor.until(lambda: len(visitor.tracks["id"]) == 4)
            page.mouse.move(*visitor.place(30, 20))
            page.mouse.down()
            page.mouse.move(*visitor.place(130, 100), steps=5)
            page.mouse.up()
            visitor.until(lambda: len(visitor.tracks["id"]) > 8 and max(visitor.tracks["group"]) == 1)
            gone = visitor.tracks["id"][0]
            page.focus("#picture")
            page.keyboard.press("]")
            page.click("#remove:not([disabled])")
            visitor.until(lambda: gone not in visitor.tracks["id"])
            streams = visitor.tracks["stream"]
            page.click("#reset")
            visitor.until(lambda: not visitor.tracks["id"] and visitor.tracks["stream"] > streams)

            processes.stop("tracker")
            page.wait_for_selector("#sentence:has-text('is silent')")
            processes.start("tracker", {"model": "lucas_kanade", "history_seconds": 60.0})
            page.wait_for_selector("#sentence:has-text('Click on what you want to follow.')")
            visitor.until(lambda: int(visitor.headers[-1]["stamp"]) > 0 and visitor.headers[-1].get("tracks"))
            visitor.until(lambda: visitor.statuses[-1]["rate"])
            click_and_follow(130.0, 60.0)

            camera.stop()
            page.wait_for_selector(f"#sentence:has-text('No image comes on {namespace}/image')")
            processes.stop("view")
            page.wait_for_selector("#sentence:has-text('The connection is lost')")
            visitor.problems = [text for text in visitor.problems if "ERR_CONNECTION_REFUSED" not in text]
            visitor.close()
        finally:
            camera.stop()
            client.close()


def _parameter(client: Any, name: str, kind: str = "integer_value") -> Any:
    from rcl_interfaces.srv import GetParameters

    answer = client.call(GetParameters, "tracker/get_parameters", GetParameters.Request(names=[name]))
    return getattr(answer.values[0], kind)
